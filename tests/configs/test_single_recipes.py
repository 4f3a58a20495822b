"""The recipes of single-agent detectors are HEAL's: its networks, trained on varied single agents; each makes a training step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from heal.config import ConfigError
from heal.datasets.open import open_dataset
from heal.opencood.config import Networks
from heal.opencood.run import export_state, make_networks
from heal.tools.shared.paths import CONFIGS
from heal.tools.train import resolve_settings
from heal.tools.training.job import make_model
from heal.training.augment import AugmentConfig
from heal.training.batches import TrainingSteps
from heal.training.step import StepTaker
from tests.configs.recipe_trees import write_recipe_trees
from tests.configs.recipes import recipe
from tests.golden.fixture import FOLDER

# The reference's configuration of each recipe, and its name of the agent type.
REFERENCES = {
    **{
        f"{data}/single_{name.split('_')[0]}": (f"{data}__Single__{name}_pretrain", name.split("_")[0])
        for data in ("opv2v", "v2xset")
        for name in ("m1_pointpillar", "m2_LSSeff48", "m3_SECOND32", "m4_LSSres48")
    },
    "dair/single_m1": ("dairv2x__Single__DAIR_single_m1", "m1"),
    "dair/single_m2": ("dairv2x__Single__DAIR_single_m2_lsseff", "m2"),
    "dair/single_m3": ("dairv2x__Single__DAIR_single_m2_second", "m2"),
    "dair/single_m4": ("dairv2x__Single__DAIR_single_m2_lssres", "m2"),
}
# The reference has one more, for V2X-Sim, which cannot be read: its network is that of m1 on OPV2V.
NETWORKS = [
    *((name, *reference) for name, reference in REFERENCES.items()),
    ("opv2v/single_m1", "v2xsim2__Single__m1_pointpillar", "m1"),
]
SMALL = ("base.grid.range_m=[-12.8, -12.8, {}, 12.8, 12.8, {}]", "training.batch_scenes=1")
CAMERA = ("image.size=[64, 96]", "range_m=[-12.8, -12.8, -10, 12.8, 12.8, 10]", "pretrained=false")


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folder of each data set."""
    return write_recipe_trees(tmp_path_factory.mktemp("data"))


def test_no_recipe_is_left_out_and_each_is_short() -> None:
    files = sorted((CONFIGS / "recipes").glob("*/single_*.yaml"))
    assert {path.relative_to(CONFIGS / "recipes").with_suffix("").as_posix() for path in files} == set(REFERENCES)
    assert all(len(path.read_text().splitlines()) < 40 for path in files)


@pytest.mark.golden
@pytest.mark.skipif(not FOLDER.exists(), reason=f"no {FOLDER}; set HEAL_GOLDEN to the folder with the golden fixtures")
@pytest.mark.parametrize(("name", "listing", "heal_name"), NETWORKS)
def test_networks_have_the_references_weights(name: str, listing: str, heal_name: str) -> None:
    settings = recipe(name)
    networks = Networks(base=settings.base, agents={heal_name: next(iter(settings.agents.values()))})
    found = {key: list(tensor.shape) for key, tensor in export_state(make_networks(networks)).items()}
    expected = json.loads((FOLDER / "state_dict" / f"{listing}.json").read_text())["state_dict"]
    assert found == {key: entry["shape"] for key, entry in expected.items()}


@pytest.mark.parametrize("name", REFERENCES)
def test_single_agents_are_varied_and_drawn_among_all(name: str) -> None:
    settings, dair = recipe(name), name.startswith("dair")
    training, (agent,) = settings.training, settings.agents.values()
    assert settings.augment == AugmentConfig(of="lidar", flip=True, agent_yaw_deg=45, scale=0.05)
    assert (training.max_agents, training.random_ego, training.frozen_base) == (1, True, False)
    assert dair or training.ego_of == "any"  # on DAIR-V2X-C both sides are the ego in any case
    assert (training.epochs, training.milestones, training.batch_scenes) == ((40, (15, 30), 2) if dair else (30, (15, 25), 4))
    assert training.ground_truth == ("merged" if dair else "joint")
    assert not name.startswith("v2xset") or (agent.sensor.beams == 64 and not agent.sensor_in_training.depth)


@pytest.mark.parametrize("name", REFERENCES)
def test_a_detector_makes_a_step(name: str, trees: dict[str, Path]) -> None:
    path, data = CONFIGS / "recipes" / f"{name}.yaml", name.split("/")[0]
    heights = (-3.5, 1.5) if data == "dair" else (-3.0, 1.0)
    cameras = [agent for agent, part in recipe(name).agents.items() if part.sensor.cameras]
    small = [text.format(*heights) for text in SMALL] + [f"agents.{agent}.encoder.{text}" for agent in cameras for text in CAMERA]
    settings = resolve_settings(path, None, small)
    model = make_model(settings, None)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    batch = TrainingSteps(open_dataset(trees[data], "train", ground_truth=settings.training.ground_truth), model, settings)[0]
    assert batch.inputs.agents_per_scene == (1,)
    losses = StepTaker(model, settings).take(batch, settings.training.learning_rate)
    assert losses.regression > 0 and losses.occupancy == 0
    kept = {key for key, tensor in model.state_dict().items() if torch.equal(tensor, before[key])}
    unused = {key for key in before if key.startswith("base.pyramid_backbone.resnet.layer0.")}
    assert unused <= kept and not any(key.startswith(("base.cls_head", "base.shrink_conv")) for key in kept)


def test_a_detector_of_several_agents_or_types_is_refused() -> None:
    path = CONFIGS / "recipes" / "opv2v" / "single_m1.yaml"
    for change, message in (
        ("training.max_agents=5", r"training\.max_agents: a single-agent detector is trained with 1 agent, got 5"),
        ("agents.m2={}", "belongs to the one agent type"),
        ("base.pyramid.strides=[2, 2, 2]", "the first stride has to be 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            resolve_settings(path, None, [change])
