"""V2XSet through the commands: the recording that lacks a camera's images is left out for camera types, and kept for LiDARs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heal.alliance import TrainingRecord, save_base
from heal.base_model import BaseModel
from heal.datasets.damage import find_damaged
from heal.datasets.dataset import DatasetError
from heal.datasets.open import open_dataset
from heal.tools.shared.paths import CONFIGS
from heal.tools.training.settings import resolve_settings
from tests.configs.recipe_trees import STAMP, write_agent
from tests.configs.recipes import recipe
from tests.tools.command import run_command

INCOMPLETE = "2021_09_09_13_20_58"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write two recordings of a vehicle and a roadside unit; in one of them an agent has three images of its four cameras."""
    for scenario in ("2021_08_22_07_52_02", INCOMPLETE):
        for number, agent_id in enumerate(("641", "-1")):
            write_agent(tmp_path / "V2XSet" / "train" / scenario / agent_id, 10.0 * number)
    (tmp_path / "V2XSet" / "train" / INCOMPLETE / "641" / f"{STAMP}_camera3.png").unlink()
    return tmp_path / "V2XSet"


@pytest.mark.parametrize(("name", "left_out"), [("stage2_m2", 1), ("stage2_m3", 0), ("stage2_m4", 1)])
def test_only_types_with_cameras_lack_the_recording(root: Path, name: str, left_out: int) -> None:
    [agent] = recipe(f"v2xset/{name}").agents.values()
    source = open_dataset(root, "train")
    damaged = find_damaged(source, range(len(source)), lambda outline: [(i, agent.sensor_in_training) for i in outline.agent_ids])
    assert [scene for scene, _ in damaged.values()] == [f"{INCOMPLETE}/{STAMP}"] * left_out


def test_a_training_goes_on_without_it(root: Path, tmp_path: Path) -> None:
    grid = "base.grid.range_m=[-12.8, -12.8, -3, 12.8, 12.8, 1]"
    settings = resolve_settings(CONFIGS / "recipes" / "v2xset" / "stage1_m1.yaml", None, [grid])
    save_base(tmp_path / "base", BaseModel(settings.base), TrainingRecord())
    paths = ("--data", root, "--base", tmp_path / "base", "--out", tmp_path / "joined", "--device", "cpu")
    small = ("image.size=[64, 96]", "range_m=[-12.8, -12.8, -10, 12.8, 12.8, 10]")
    changes = [f"agents.m4.encoder.{setting}" for setting in small] + ["training.batch_scenes=1", "training.epochs=1"]
    command = ("train", "agent", "--type", "m4", "--config", "recipes/v2xset/stage2_m4", *paths)
    command = (*command, *(part for change in (*changes, "training.workers=0") for part in ("--set", change)))
    with pytest.raises(DatasetError, match=rf"{STAMP}_camera3\.png: no such file"):
        run_command(*command)
    run_command(*command, "--on-damage", "skip")
    data = json.loads((tmp_path / "joined-m4" / "data.json").read_text())
    assert data["damaged_scenes"] == 1 and data["skipped"][0][0] == f"{INCOMPLETE}/{STAMP}"
