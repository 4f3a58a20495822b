"""A training that stops, for a cause or by Ctrl-C, never replaces its checkpoint by a worse one."""

import copy
import math
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from heal.collab_model import CollabModel
from heal.config import ConfigError
from heal.tools.training.loop import StepReport, train
from heal.training.batches import TrainingSteps
from heal.training.config import TrainingConfig
from heal.training.step import StepLosses, StepTaker, TrainingStoppedError, training_loss
from tests.tools.training.small_training import SETTINGS, SOURCE, fresh_model

# A checkpoint after every step.
OFTEN = replace(SETTINGS, training=replace(SETTINGS.training, checkpoint_s=0.0))
FROZEN = replace(OFTEN, training=replace(OFTEN.training, frozen_base=True, max_agents=1))
GOOD_STEPS = 3


@pytest.fixture(autouse=True)
def _interrupts() -> Iterator[None]:
    """Make this process react to Ctrl-C, as in a terminal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class _Fault:
    """Does something to a tensor in the step after the good ones."""

    def __init__(self) -> None:
        self.step = 0

    def report(self, report: StepReport) -> None:
        """Count the steps."""
        self.step = report.step + 1

    def __call__(self, tensor: Tensor) -> Tensor:
        """Return NaN for a tensor in the first bad step."""
        return tensor * math.nan if self.step == GOOD_STEPS else tensor


def _train(run: Path, model: CollabModel, settings: TrainingConfig, report: Any = lambda _: None) -> None:
    run.mkdir(exist_ok=True)
    train(model, TrainingSteps(SOURCE, model, settings), settings, run, report)


def _good_state(run: Path, settings: TrainingConfig) -> dict[str, Tensor]:
    """Return the weights after the good steps of a training without a fault."""
    model, good = fresh_model(), {}

    def keep(report: StepReport) -> None:
        if report.step == GOOD_STEPS - 1:
            good.update(copy.deepcopy(model.state_dict()))

    _train(run, model, settings, keep)
    return good


def _assert_good(run: Path, good: dict[str, Tensor]) -> None:
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    assert state["step"] == GOOD_STEPS
    assert [name for name, tensor in good.items() if not torch.equal(tensor, state["model"][name])] == []


@pytest.mark.parametrize("clip", [0.0, 10.0])
def test_a_gradient_that_is_nan_stops_before_the_weights_change(tmp_path: Path, clip: float) -> None:
    settings = replace(OFTEN, training=replace(OFTEN.training, clip_gradient_norm=clip))
    good, model, fault = _good_state(tmp_path / "good", settings), fresh_model(), _Fault()
    model.base.cls_head.weight.register_hook(fault)
    with pytest.raises(TrainingStoppedError, match=r"norm of the gradients is nan, in scenes scene-\d.*learning_rate"):
        _train(tmp_path / "run", model, settings, fault.report)
    _assert_good(tmp_path / "run", good)
    assert all(torch.isfinite(weight).all() for weight in model.parameters())


def test_a_loss_that_is_nan_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, fault = _good_state(tmp_path / "good", OFTEN), _Fault()

    def faulty_loss(*given: Any) -> StepLosses:
        losses = training_loss(*given)
        return replace(losses, total=fault(losses.total))

    monkeypatch.setattr("heal.training.step.training_loss", faulty_loss)
    with pytest.raises(TrainingStoppedError, match="the loss is nan"):
        _train(tmp_path / "run", fresh_model(), OFTEN, fault.report)
    _assert_good(tmp_path / "run", good)
    # The advice can be followed: the training goes on at a lower rate.
    lower = replace(OFTEN, training=replace(OFTEN.training, learning_rate=1e-4, weight_decay=0.5))
    reports: list[StepReport] = []
    monkeypatch.undo()
    _train(tmp_path / "run", fresh_model(), lower, reports.append)
    assert reports[0].step == GOOD_STEPS and max(report.learning_rate for report in reports) <= 1e-4
    (group,) = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["optimizer"]["param_groups"]
    assert group["weight_decay"] == 0.5


def test_a_frozen_base_that_changes_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    good = _good_state(tmp_path / "good", FROZEN)
    slow = replace(FROZEN, training=replace(FROZEN.training, checkpoint_s=1e9))
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path / "run", fresh_model(), slow, _interrupt_after_the_good_steps)
    resumed = fresh_model()
    with pytest.raises(TrainingStoppedError, match=r"cls_head.bias"):
        _train(tmp_path / "run", resumed, slow, lambda _: _shift(resumed.base.cls_head))
    _assert_good(tmp_path / "run", good)


def test_ctrl_c_in_a_step_waits_for_its_end(tmp_path: Path) -> None:
    good, model, fault = _good_state(tmp_path / "good", SETTINGS), fresh_model(), _Fault()

    def interrupt(*_: Any) -> None:
        if fault.step == GOOD_STEPS - 1:
            os.kill(os.getpid(), signal.SIGINT)

    model.base.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path / "run", model, SETTINGS, fault.report)
    _assert_good(tmp_path / "run", good)
    assert fault.step == GOOD_STEPS and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_in_a_step_acts_at_once_and_saves_nothing(tmp_path: Path) -> None:
    good, model, fault = _good_state(tmp_path / "good", OFTEN), fresh_model(), _Fault()

    def interrupt(*_: Any) -> None:
        if fault.step == GOOD_STEPS:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    model.base.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path / "run", model, OFTEN, fault.report)
    _assert_good(tmp_path / "run", good)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = _good_state(tmp_path / "good", OFTEN)
    save = torch.save

    def fill(state: Any, file: Any) -> None:
        save(state, file)
        if state["step"] > GOOD_STEPS:
            file.truncate(100)
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fill)
    with pytest.raises(OSError, match="No space"):
        _train(tmp_path / "run", fresh_model(), OFTEN)
    _assert_good(tmp_path / "run", good)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint.pt"]


def test_fewer_epochs_than_are_done_are_refused(tmp_path: Path) -> None:
    _train(tmp_path, fresh_model(), SETTINGS)
    with pytest.raises(ConfigError, match=r"at least training\.epochs=3"):
        _train(tmp_path, fresh_model(), replace(SETTINGS, training=replace(SETTINGS.training, epochs=2)))


def test_the_checkpoint_of_another_base_is_refused(tmp_path: Path) -> None:
    _train(tmp_path, fresh_model(), FROZEN)
    other = fresh_model()
    _shift(other.base.cls_head)
    with pytest.raises(ConfigError, match="another base"):
        _train(tmp_path, other, FROZEN)


def test_in_float16_an_infinite_norm_is_an_error_only_at_a_low_scale() -> None:
    class Scaler:
        scale = 2.0

        def is_enabled(self) -> bool:
            return True

        def get_scale(self) -> float:
            return self.scale

    model, scaler = fresh_model(), Scaler()
    taker = StepTaker(model, SETTINGS)
    taker.scaler = scaler
    batch = TrainingSteps(SOURCE, model, SETTINGS)[0]
    taker._check_norm(torch.tensor(math.inf), batch)
    scaler.scale = 0.5
    with pytest.raises(TrainingStoppedError, match="inf"):
        taker._check_norm(torch.tensor(math.inf), batch)


def _interrupt_after_the_good_steps(report: StepReport) -> None:
    if report.step == GOOD_STEPS - 1:
        raise KeyboardInterrupt


def _shift(part: nn.Conv2d) -> None:
    """Change a bias."""
    assert part.bias is not None
    with torch.no_grad():
        part.bias += 1.0
