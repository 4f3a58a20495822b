"""After a short training, the running statistics of norms are those of its batches."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from heal.collab_model import CollabModel
from heal.tools.training.loop import train
from heal.training.batches import TrainingSteps
from heal.training.norms import RunningStatistics
from tests.tools.training.small_training import SETTINGS, SOURCE, fresh_model


def _norms(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


def _trained(run: Path, model: CollabModel) -> list[torch.Tensor]:
    run.mkdir()
    train(model, TrainingSteps(SOURCE, model, SETTINGS), SETTINGS, run, lambda _: None)
    return [value for norm in _norms(model) for value in (norm.running_mean, norm.running_var) if value is not None]


def test_the_first_values_leave_no_trace(tmp_path: Path) -> None:
    model, other = fresh_model(), fresh_model()
    for norm in _norms(other):
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.fill_(-7.0)
        norm.running_var.fill_(1e4)
    ours, theirs = _trained(tmp_path / "ours", model), _trained(tmp_path / "other", other)
    assert len(ours) > 10 and all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(("own", "expected"), [(0.01, (1.0, 0.1, 0.01, 0.01)), (0.3, (1.0, 0.3, 0.3, 0.3))])
def test_steps_count_less_and_less_until_the_norm_s_own_momentum(own: float, expected: tuple[float, ...]) -> None:
    norm = nn.BatchNorm1d(2, momentum=own)
    statistics, found = RunningStatistics(nn.Sequential(norm)), []
    for step in (0, 90, 990, 100_000):
        statistics.begin_step(step)
        found.append(norm.momentum)
    assert found == pytest.approx(expected)
