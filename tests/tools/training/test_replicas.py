"""Several processes that train together take the step of one process with the mean of their gradients."""

import copy
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from heal.agents.on_ray.replicas import run_replicas
from heal.tools.training.checkpoint import load_best, load_weights
from heal.training.batches import TrainingSteps
from heal.training.config import TrainingConfig, learning_rate
from heal.training.norms import RunningStatistics
from heal.training.replica import Replica, ReplicaError
from heal.training.step import Learner, StepTaker, make_optimizer, training_loss
from heal.training.validation import ValidationScenes, validate
from tests.tools.training.small_training import SOURCE, TOGETHER, fail, fresh_model, work


def _expected(settings: TrainingConfig) -> dict[str, Tensor]:
    """Take the steps of both processes in this one; the batch norm statistics are the mean of both."""
    model = fresh_model().train()
    optimizer, running = make_optimizer(model, settings.training), RunningStatistics(model)
    shares = [TrainingSteps(SOURCE, model, settings, Replica(rank, 2)) for rank in range(2)]
    for step in range(len(shares[0])):
        running.begin_step(step)
        twins = [model, copy.deepcopy(model)]
        for twin, share in zip(twins, shares, strict=True):
            twin.zero_grad()
            training_loss(Learner(twin), share[step], settings, twin.base.detection).total.backward()
        for first, second in zip(*(twin.parameters() for twin in twins), strict=True):
            assert first.grad is not None and second.grad is not None
            first.grad = (first.grad + second.grad) / 2
        for name, statistics in model.named_buffers():
            if "running" in name:
                statistics.add_(twins[1].get_buffer(name)).div_(2)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(settings.training, step, shares[0].steps_per_epoch)
        optimizer.step()
    return model.state_dict()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run folder of a training in two processes."""
    path = tmp_path_factory.mktemp("replicas")
    run_replicas(partial(work, path), 2, gpus=False)
    return path


def test_gradients_and_statistics_are_averaged_and_the_first_process_writes(run: Path) -> None:
    model = fresh_model()
    assert load_weights(run / "checkpoint.pt", model).step == 2
    for name, tensor in _expected(TOGETHER).items():
        torch.testing.assert_close(model.state_dict()[name], tensor, rtol=1e-3, atol=1e-5, msg=name)


def test_every_process_has_the_same_weights_and_statistics(run: Path) -> None:
    states = [torch.load(run / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    saved = torch.load(run / "checkpoint.pt", weights_only=True)["model"]
    assert [name for name, tensor in saved.items() if not all(torch.equal(tensor, state[name]) for state in states)] == []


def test_the_processes_validate_together(run: Path) -> None:
    model = fresh_model()
    record = load_best(run / "best.pt", model)
    alone = validate(StepTaker(model, TOGETHER), ValidationScenes(SOURCE, model, TOGETHER))
    assert record and (record.epoch, record.scenes) == (1, 5) and record.loss == pytest.approx(alone.loss, rel=1e-5)


def test_the_error_of_a_process_is_reported_with_its_own_message() -> None:
    with pytest.raises(ReplicaError, match="ValueError: the loss is nan in process"):
        run_replicas(fail, 2, gpus=False)
