"""Trainings of a base with centre heads: the loss falls, stage 2 leaves the base as it is, commands use the result."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from heal.alliance import load_alliance
from heal.base_model import BaseModel
from heal.collab_model import CollabModel
from heal.config import ConfigError, save_config
from heal.heads.center_targets import CentersConfig, CenterTargets
from heal.tools.training.loop import StepReport, train
from heal.training.batches import TrainingSteps
from heal.training.config import ScheduleConfig, TrainingConfig
from heal.training.step import StepTaker
from heal.training.validation import ValidationScenes, validate
from tests.heal.networks import AGENT, BASE, small_model
from tests.tools.command import generate_town, run_command
from tests.tools.training.small_training import SETTINGS, SOURCE

CENTERS = replace(SETTINGS, base=replace(BASE, heads=CentersConfig(channels=16, iou_exponent=0.3)))


def _model() -> CollabModel:
    torch.manual_seed(0)
    return CollabModel(BaseModel(CENTERS.base), {"m1": small_model().agent("m1")})


def test_the_loss_of_centre_heads_falls(tmp_path: Path) -> None:
    longer = replace(CENTERS, training=replace(CENTERS.training, epochs=40))
    model, reports = _model(), list[StepReport]()
    batch = TrainingSteps(SOURCE, model, longer)[0]
    assert isinstance(batch.targets, CenterTargets) and batch.targets.centres.any()
    train(model, TrainingSteps(SOURCE, model, longer), longer, tmp_path, reports.append)
    for part in ("total", "classification", "regression", "direction", "occupancy"):
        losses = [report.losses[part] for report in reports]
        assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:4]), part
    score = validate(StepTaker(model, longer), ValidationScenes(SOURCE, model, longer))
    assert np.isfinite(score.loss) and score.ap[0.3] is not None


def test_stage_two_leaves_a_base_with_centre_heads_as_it_is(tmp_path: Path) -> None:
    settings = replace(CENTERS, training=replace(CENTERS.training, frozen_base=True, max_agents=1, random_ego=True))
    model = _model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train(model, TrainingSteps(SOURCE, model, settings), settings, tmp_path, lambda _: None)
    after = model.state_dict()
    assert {name.split(".")[0] for name, tensor in before.items() if not torch.equal(tensor, after[name])} == {"agents"}


def test_commands_work_with_centre_heads(tmp_path: Path) -> None:
    generate_town(tmp_path / "town")
    settings = TrainingConfig(
        base=CENTERS.base, agents={"m1": AGENT}, loss=SETTINGS.loss, training=ScheduleConfig(epochs=1, batch_scenes=2, workers=0)
    )
    save_config(settings, tmp_path / "base.yaml")
    data = ("--data", tmp_path / "town")
    run_command("train", "base", *data, "--config", tmp_path / "base.yaml", "--out", tmp_path / "run", "--threads", 1)
    alliance = load_alliance(tmp_path / "run" / "alliance")
    assert alliance.base.config == CENTERS.base and alliance.card.hash == alliance.base_hash
    out = tmp_path / "evaluated"
    run_command("evaluate", "--alliance", alliance.path, *data, "--out", out, "--pictures", 0)
    assert json.loads((out / "metrics.json").read_text())["ap"].keys() == {"0.3", "0.5", "0.7"}
    assert alliance.base_hash[:12] in run_command("info", alliance.path)
    run_command("profile", alliance.path, "--out", tmp_path / "profile")
    run_command("export", alliance.path, "--program", "--out", tmp_path / "program")
    card = json.loads((tmp_path / "program" / "graphs.json").read_text())
    assert [output["shape"][1] for output in card["graphs"][1]["outputs"]] == [1, 7, 4]
    with pytest.raises(
        ConfigError, match=r"HEAL has no setting for base\.heads\.kind = centers, so this network cannot be exported"
    ):
        run_command("export", alliance.path, "--out", tmp_path / "for-heal")
    assert not (tmp_path / "for-heal" / "config.yaml").exists()
