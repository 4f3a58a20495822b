"""A base of early fusion is trained and teaches another one, by the commands; the teacher is recorded, and may not change."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from heal.agent_model import AgentModel
from heal.alliance import load_alliance
from heal.base_model import BaseModel
from heal.config import ConfigError
from heal.errors import UserError
from heal.tools.training.loop import StepReport, train
from heal.training.batches import TrainingSteps
from heal.training.distillation import make_teacher
from tests.heal.networks import AGENT, BASE, GRID
from tests.tools.training.small_training import SETTINGS, SOURCE, fresh_model
from tests.tools.training.test_train_commands import _base, folder

__all__ = ["folder"]


@pytest.fixture
def early(folder: Path) -> Path:
    """Train a base on joined clouds, and return its alliance."""
    out = folder / "early"
    _base(folder, "--set", "training.merge_points=true", "--out", out)
    return out / "alliance"


def rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_base_is_taught_by_one_of_early_fusion(folder: Path, early: Path) -> None:
    taught, hashed = folder / "run", load_alliance(early).base_hash
    _base(folder, "--set", f"training.teacher={early}")
    assert load_alliance(taught / "alliance").card.training.teacher == hashed
    assert all(row["distillation"] > 0 for row in rows(taught)) and rows(early.parent)[0]["distillation"] == 0
    moved = folder / "elsewhere"
    shutil.move(early, moved)
    _base(folder, "--set", f"training.teacher={moved}", "--set", "training.epochs=2")
    assert len(rows(taught)) == 4, "the training goes on with the same teacher in another folder"
    _base(folder, "--out", folder / "other", "--set", "training.merge_points=true", "--set", "training.seed=1")
    with pytest.raises(ConfigError, match=r"other settings: training\.teacher_hash"):
        _base(folder, "--set", f"training.teacher={folder / 'other' / 'alliance'}", "--set", "training.epochs=3")


def test_a_lesson_that_is_interrupted_ends_with_the_same_weights(tmp_path: Path) -> None:
    torch.manual_seed(7)
    teacher = make_teacher(BaseModel(BASE), "m1", AgentModel(AGENT, GRID))

    def lesson(run: Path, report: Callable[[StepReport], None] = lambda _: None) -> dict[str, torch.Tensor]:
        run.mkdir(exist_ok=True)
        model = fresh_model()
        train(model, TrainingSteps(SOURCE, model, SETTINGS, teacher=teacher), SETTINGS, run, report)
        return model.state_dict()

    def stop(report: StepReport) -> None:
        if report.step == 2:
            raise KeyboardInterrupt

    whole = lesson(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        lesson(tmp_path / "stopped", stop)
    resumed = lesson(tmp_path / "stopped")
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


def test_a_teacher_that_does_not_fit_is_refused_before_anything_is_written(folder: Path, early: Path) -> None:
    wider = ("--set", "base.in_channels=8", "--set", "base.pyramid.upsample_channels=[8, 16]")
    with pytest.raises(UserError, match="the maps of teacher and student must have the same shapes"):
        _base(folder, "--set", f"training.teacher={early}", *wider)
    with pytest.raises(UserError, match="nowhere"):
        _base(folder, "--set", "training.teacher=nowhere")
    assert not (folder / "run").exists()
