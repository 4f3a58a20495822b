"""Validation in a training: nothing else changes, the best weights are kept through interruptions, and patience ends it."""

import copy
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from heal.alliance import ValidationRecord
from heal.config import ConfigError
from heal.datasets.in_memory import ScenesInMemory
from heal.errors import UserError
from heal.tools.training import validator as validator_module
from heal.tools.training.checkpoint import load_best, load_weights
from heal.tools.training.loop import StepReport, train
from heal.tools.training.step_log import StepLog, last_row
from heal.tools.training.validator import Validator
from heal.training.batches import TrainingSteps
from heal.training.config import ScheduleConfig, TrainingConfig
from heal.training.validation import ValidationScenes, ValidationScore
from tests.heal.networks import small_scene
from tests.tools.training.small_training import SETTINGS, SOURCE, fresh_model

SCENES = ScenesInMemory([small_scene(seed, agents=2) for seed in (7, 8, 9)])
FROZEN = replace(SETTINGS, training=replace(SETTINGS.training, frozen_base=True, max_agents=1, random_ego=True))


def _with(settings: TrainingConfig, **training: Any) -> TrainingConfig:
    return replace(settings, training=replace(settings.training, **training))


class _Run:
    """Trainings in one folder, each with new networks, as after a kill; and what they reported."""

    def __init__(self, path: Path) -> None:
        self.path, self.model = path, fresh_model()
        self.states: list[dict[str, Tensor]] = []
        self.validations: list[ValidationRecord] = []
        path.mkdir(exist_ok=True)

    def train(
        self,
        settings: TrainingConfig = SETTINGS,
        on_step: Callable[[StepReport], None] = lambda _: None,
        scenes: ScenesInMemory | None = SCENES,
        split: str = "validate",
    ) -> None:
        """Train to the end, from the checkpoint in the folder; without `scenes` there is no validation."""
        self.model = fresh_model()

        def report(step: StepReport) -> None:
            self.states.append(copy.deepcopy(self.model.state_dict()))
            on_step(step)

        validator = None
        if scenes:
            batches = ValidationScenes(scenes, self.model, settings)
            validator = Validator(batches, split, self.path, lambda _, record: self.validations.append(record))
        train(self.model, TrainingSteps(SOURCE, self.model, settings), settings, self.path, report, validator=validator)

    @property
    def best(self) -> tuple[int, dict[str, Tensor]]:
        """The epoch of the best weights, and the weights."""
        model = fresh_model()
        record = load_best(self.path / "best.pt", model)
        assert record
        return record.epoch, model.state_dict()


@pytest.fixture
def run(tmp_path: Path) -> _Run:
    """Return a new run folder."""
    return _Run(tmp_path / "run")


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[float]], list[int]]:
    """Return a function that prescribes the losses of the next validations."""

    def prescribe(values: Sequence[float]) -> list[int]:
        left, calls = list(values), list[int]()

        def validate(*_: object) -> ValidationScore:
            calls.append(len(calls))
            loss = left.pop(0)
            if math.isinf(loss):
                raise KeyboardInterrupt
            return ValidationScore(loss, {0.5: None})

        monkeypatch.setattr(validator_module, "validate", validate)
        return calls

    return prescribe


def _interrupt_after(step: int) -> Callable[[StepReport], None]:
    def interrupt(report: StepReport) -> None:
        if report.step == step:
            raise KeyboardInterrupt

    return interrupt


def _assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert [name for name, tensor in one.items() if not torch.equal(tensor, other[name])] == []


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("settings", [SETTINGS, FROZEN], ids=["stage 1", "stage 2"])
def test_the_weights_after_every_step_are_the_same_with_and_without_validation(
    tmp_path: Path, settings: TrainingConfig, workers: int
) -> None:
    with_it, without = _Run(tmp_path / "with"), _Run(tmp_path / "without")
    with_it.train(_with(settings, workers=workers))
    without.train(settings, scenes=None)
    assert len(with_it.states) == len(without.states) == 6 and [part.epoch for part in with_it.validations] == [1, 2, 3]
    for one, other in zip(with_it.states, without.states, strict=True):
        _assert_equal(one, other)
    assert all(math.isfinite(part.loss) and set(part.ap) == {"0.3", "0.5", "0.7"} for part in with_it.validations)
    assert not (without.path / "best.pt").exists()


def test_the_best_epoch_and_the_last_one_are_kept(run: _Run, losses: Callable[..., Any]) -> None:
    losses([0.5, 0.3, 0.4])
    run.train()
    epoch, weights = run.best
    assert epoch == 2
    _assert_equal(weights, run.states[3])
    last = fresh_model()
    assert load_weights(run.path / "checkpoint.pt", last).validated == (1, 2, 3)
    _assert_equal(last.state_dict(), run.states[5])


def test_a_loss_that_is_nan_is_never_the_best(run: _Run, losses: Callable[..., Any]) -> None:
    losses([math.nan, 0.3, math.nan])
    run.train()
    assert run.best[0] == 2


@pytest.mark.parametrize("stop_after", [2, 3, 4])
def test_a_resumed_training_knows_the_best_and_ends_alike(tmp_path: Path, stop_after: int) -> None:
    straight, resumed = _Run(tmp_path / "straight"), _Run(tmp_path / "resumed")
    straight.train()
    with pytest.raises(KeyboardInterrupt):
        resumed.train(on_step=_interrupt_after(stop_after))
    resumed.train()
    assert resumed.validations == straight.validations and resumed.best[0] == straight.best[0]
    _assert_equal(resumed.best[1], straight.best[1])
    _assert_equal(resumed.model.state_dict(), straight.model.state_dict())


def test_ctrl_c_in_a_validation_keeps_the_epoch_and_validates_again(run: _Run, losses: Callable[..., Any]) -> None:
    losses([0.5, math.inf])
    with pytest.raises(KeyboardInterrupt):
        run.train()
    assert load_weights(run.path / "checkpoint.pt", fresh_model()).step == 4
    losses([0.4, 0.6])
    run.train()
    assert [part.epoch for part in run.validations] == [1, 2, 3] and len(run.states) == 6 and run.best[0] == 2


def test_a_kill_between_best_weights_and_checkpoint_loses_neither(run: _Run, losses: Callable[..., Any]) -> None:
    losses([0.5])
    with pytest.raises(KeyboardInterrupt):
        run.train(on_step=_interrupt_after(2))
    before = (run.path / "checkpoint.pt").read_bytes()
    losses([0.3, 0.4])
    run.train()
    (run.path / "checkpoint.pt").write_bytes(before)
    losses([0.3, 0.4])
    run.train()
    assert run.best[0] == 2
    _assert_equal(run.best[1], run.states[3])


def test_every_second_epoch_and_the_last_one(run: _Run) -> None:
    run.train(_with(SETTINGS, validate_every_epochs=2))
    assert [part.epoch for part in run.validations] == [2, 3]


def test_patience_ends_a_training_and_counts_on_when_it_is_resumed(run: _Run, losses: Callable[..., Any]) -> None:
    patient = _with(SETTINGS, epochs=9, patience=2)
    losses([0.5, 0.4, 0.6])
    with pytest.raises(KeyboardInterrupt):
        run.train(patient, on_step=_interrupt_after(6))
    calls = losses([0.7, 0.8])
    run.train(patient)
    assert len(calls) == 1 and load_weights(run.path / "checkpoint.pt", fresh_model()).step == 8 and run.best[0] == 2
    run.train(patient)
    assert len(calls) == 1 and len(run.states) == 8
    losses([0.8])
    run.train(_with(patient, patience=3))
    assert load_weights(run.path / "checkpoint.pt", fresh_model()).step == 10 and run.best[0] == 2


def test_the_best_of_other_scenes_is_refused_but_not_replaced(run: _Run) -> None:
    run.train()
    before = (run.path / "best.pt").read_bytes()
    for scenes, split in ((ScenesInMemory(SCENES.scenes[:2]), "validate"), (SCENES, "other")):
        with pytest.raises(ConfigError, match=r"best\.pt was chosen on 3 scenes of split validate.*--restart"):
            run.train(scenes=scenes, split=split)
    assert (run.path / "best.pt").read_bytes() == before


def test_a_full_disk_leaves_the_best_weights_before(run: _Run, losses: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    save = torch.save

    def fill(state: Any, file: Any) -> None:
        save(state, file)
        if state.get("validation", {}).get("epoch") == 2:
            file.truncate(100)
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fill)
    losses([0.5, 0.3])
    with pytest.raises(OSError, match="No space"):
        run.train()
    assert run.best[0] == 1 and load_weights(run.path / "checkpoint.pt", fresh_model()).validated == (1,)
    assert {path.name for path in run.path.iterdir()} == {"best.pt", "checkpoint.pt"}


def test_validations_are_logged_between_the_steps_and_dropped_with_them(tmp_path: Path) -> None:
    record = ValidationRecord(split="validate", scenes=3, epoch=1, loss=0.5, ap={"0.5": 0.25, "0.7": None})
    for first in (0, 2):  # the second time resumed after two steps
        log = StepLog(tmp_path, first)
        for step in range(first, 4):
            log.write(StepReport(step, 4, step // 2, 0.1, 0.0, {"total": float(first)}))
            if step % 2:
                log.write_validation(step, replace(record, epoch=step // 2 + 1, loss=0.5 if first else math.nan))
        log.close()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], "validation" in row) for row in rows] == [
        (0, False),
        (1, False),
        (1, True),
        (2, False),
        (3, False),
        (3, True),
    ]
    assert rows[2]["validation"]["loss"] is None and last_row(tmp_path) == rows[-1]
    assert rows[-1] == {"step": 3, "epoch": 1, "validation": {"loss": 0.5, "ap": {"0.5": 0.25, "0.7": None}}}


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(UserError, match="patience=3 waits for validations"):
        ScheduleConfig(validate_every_epochs=0, patience=3)
    with pytest.raises(UserError, match="0 or more, got -1 and 0"):
        ScheduleConfig(validate_every_epochs=-1)
