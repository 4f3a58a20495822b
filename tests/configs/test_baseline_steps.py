"""A recipe of each baseline makes a training step on a small tree of its data set: the paper's networks, on a small range."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from heal.datasets.open import open_dataset
from heal.tools.shared.paths import CONFIGS
from heal.tools.training.job import make_model
from heal.tools.training.settings import resolve_settings
from heal.training.batches import TrainingSteps
from heal.training.step import StepTaker
from tests.configs.baselines import METHODS
from tests.configs.recipe_trees import write_recipe_trees
from tests.configs.recipes import recipe

# One recipe of each method, on each of the data sets and with each of the sensors.
NAMES = (
    "v2xset/baselines/lidar_fcooper",
    "opv2v/baselines/joint_m1m2_attfuse",
    "opv2v/baselines/camera_v2vnet",
    "opv2v/baselines/lidar_disconet",
    "dair/baselines/lidar_coalign",
    "dair/baselines/camera_cobevt",
    "opv2v/baselines/lidar_v2xvit",
)
CAMERA = ("image.size=[64, 96]", "range_m=[-12.8, -12.8, -10, 12.8, 12.8, 10]", "pretrained=false")


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folder of each data set."""
    return write_recipe_trees(tmp_path_factory.mktemp("data"))


def test_no_method_is_left_out() -> None:
    assert [name.rpartition("_")[2] for name in NAMES] == list(METHODS)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_makes_a_step(name: str, trees: dict[str, Path]) -> None:
    data = name.split("/")[0]
    z_min, z_max = recipe(name).base.grid.range_m[2::3]
    cameras = [agent for agent, part in recipe(name).agents.items() if part.sensor.cameras]
    small = [f"base.grid.range_m=[-12.8, -12.8, {z_min}, 12.8, 12.8, {z_max}]", "training.batch_scenes=1"]
    small += [f"agents.{agent}.encoder.{setting}" for agent in cameras for setting in CAMERA]
    settings = resolve_settings(CONFIGS / "recipes" / f"{name}.yaml", None, small)
    model = make_model(settings, None)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    batch = TrainingSteps(open_dataset(trees[data], "train", ground_truth=settings.training.ground_truth), model, settings)[0]
    assert batch.inputs.agents_per_scene == (2,), "both agents are fused"
    losses = StepTaker(model, settings).take(batch, settings.training.learning_rate)
    assert losses.regression > 0 and losses.occupancy == 0 and (losses.single > 0) == name.endswith("camera_v2vnet")
    learned = {".".join(key.split(".")[:2]) for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])}
    with_weights = any(weight.numel() for weight in model.base.fusion.parameters())
    assert {"base.cls_head", *({"base.fusion_net"} if with_weights else ())} <= learned
    assert any(key.startswith("agents.") for key in learned)
