"""Each recipe makes a training step on a small tree of its data set: the paper's networks, on a small range and small images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from heal.alliance import TrainingRecord, load_alliance, save_base
from heal.base_model import BaseModel
from heal.config import ConfigError
from heal.datasets.open import open_dataset
from heal.tools.profile_costs import open_networks
from heal.tools.profiling.parameters import parameters_of
from heal.tools.shared.paths import CONFIGS, type_path
from heal.tools.training.job import make_model
from heal.tools.training.settings import resolve_agent_settings, resolve_settings
from heal.training.batches import TrainingSteps
from heal.training.config import TrainingConfig
from heal.training.step import StepTaker
from tests.configs.recipe_trees import write_recipe_trees
from tests.configs.recipes import REFERENCES, recipe
from tests.tools.command import run_command

GRID = "base.grid.range_m=[-12.8, -12.8, {}, 12.8, 12.8, {}]"
HEIGHTS = {"opv2v": (-3.0, 1.0), "v2xset": (-3.0, 1.0), "dair": (-3.5, 1.5)}
CAMERA = ("image.size=[64, 96]", "range_m=[-12.8, -12.8, -10, 12.8, 12.8, 10]", "pretrained=false")


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folder of each data set."""
    return write_recipe_trees(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return, for each data set, an alliance with the base of its recipes on a small range."""
    folder = tmp_path_factory.mktemp("bases")
    for data, heights in HEIGHTS.items():
        settings = resolve_settings(CONFIGS / "recipes" / data / "stage1_m1.yaml", None, [GRID.format(*heights)])
        save_base(folder / data, BaseModel(settings.base), TrainingRecord())
    return {data: folder / data for data in HEIGHTS}


def small(name: str, bases: dict[str, Path]) -> TrainingConfig:
    """Return the settings of a recipe as the commands resolve them, on a small range."""
    path, data, stage2 = CONFIGS / "recipes" / f"{name}.yaml", name.split("/")[0], "stage2" in name
    cameras = [agent for agent, part in recipe(name).agents.items() if part.sensor.cameras]
    common = [f"agents.{agent}.encoder.{setting}" for agent in cameras for setting in CAMERA] + ["training.batch_scenes=1"]
    if not stage2:
        return resolve_settings(path, None, [*common, GRID.format(*HEIGHTS[data])])
    kind = type_path(name.rsplit("_", 1)[1])
    if data != "dair" and kind.stem == "m3":
        common.append("training.range_m=[12.8, 6.4]")
    return resolve_agent_settings(kind, load_alliance(bases[data]), path, common)


@pytest.mark.parametrize("name", REFERENCES)
def test_a_recipe_makes_a_step(name: str, trees: dict[str, Path], bases: dict[str, Path]) -> None:
    settings, data = small(name, bases), name.split("/")[0]
    initial = load_alliance(bases[data]) if settings.training.frozen_base else None
    model = make_model(settings, initial)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    source = open_dataset(trees[data], "train", ground_truth=settings.training.ground_truth)
    batch = TrainingSteps(source, model, settings)[0]
    losses = StepTaker(model, settings).take(batch, settings.training.learning_rate)
    assert losses.regression > 0, "the scene has vehicles in range"
    learned = {key.split(".")[0] for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])}
    assert learned == ({"agents"} if settings.training.frozen_base else {"base", "agents"})


def test_a_recipe_of_stage_2_is_for_its_type_alone(bases: dict[str, Path]) -> None:
    path, alliance = CONFIGS / "recipes" / "v2xset" / "stage2_m2.yaml", load_alliance(bases["v2xset"])
    with pytest.raises(ConfigError, match=r"stage2_m2\.yaml is for the type m2, got m4: expected --type m2"):
        resolve_agent_settings(type_path("m4"), alliance, path, [])
    encoders = [
        resolve_agent_settings(type_path("m2"), alliance, path, more).agents["m2"].encoder
        for more in ([], ["agents.m2.encoder.channels=64"])
    ]
    assert [encoder.depth_supervision for encoder in encoders] == [False, False]  # of the recipe, before the type's own file
    assert [encoder.channels for encoder in encoders] == [128, 64]  # of the command line, before both


def test_the_commands_take_recipes(trees: dict[str, Path], bases: dict[str, Path], tmp_path: Path) -> None:
    paths = (
        "--data",
        trees["v2xset"],
        "--base",
        bases["v2xset"],
        "--out",
        tmp_path / "joined",
        "--config",
        "recipes/v2xset/stage2_m3",
    )
    settings = ("training.batch_scenes=1", "training.epochs=1", "training.workers=0", "training.range_m=[12.8, 6.4]")
    run_command(
        "train", "agent", "--type", "m3", *paths, "--device", "cpu", *(part for text in settings for part in ("--set", text))
    )
    assert load_alliance(tmp_path / "joined").agent("m3").config == recipe("v2xset/stage2_m3").agents["m3"]
    networks = open_networks(None, "recipes/dair/final_m1m2.yaml", None, None)  # as `heal profile --base` opens them
    assert (networks.names, parameters_of(networks.model)) == (("m1", "m2"), 20_502_813)
