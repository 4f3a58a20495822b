"""The shipped agent types: m1 to m4 are the paper's, and all fit the shipped bases."""

import pytest

from heal.config import load_config
from heal.opencood.config import Networks
from heal.opencood.run import make_networks
from heal.tools.shared.paths import CONFIGS
from heal.tools.shared.setting_files import read_agent_type
from heal.training.config import TrainingConfig

# Weights of the encoder, the backbone and the aligner; of m1 to m4 as the reference's networks have them.
SIZES = {
    ("base.yaml", "m1.yaml"): (768, 226_176, 0),
    ("base.yaml", "m2.yaml"): (14_635_796, 267_136, 109_440),
    ("base.yaml", "m3.yaml"): (699_456, 267_136, 109_440),
    ("base.yaml", "m4.yaml"): (1_535_216, 267_136, 109_440),
    ("base.yaml", "voxel_net.yaml"): (461_712, 345_344, 109_440),
    ("base.yaml", "pixor.yaml"): (15_392, 653_824, 109_440),
    ("base.yaml", "point_transformer.yaml"): (68_224, 226_176, 109_440),
    ("base.yaml", "lidar_camera.yaml"): (13_937_260, 267_136, 109_440),
    ("base.yaml", "v2xset_m2.yaml"): (14_635_796, 267_136, 109_440),
    ("base.yaml", "v2xset_m3.yaml"): (699_456, 267_136, 109_440),
    ("base.yaml", "v2xset_m4.yaml"): (1_535_216, 267_136, 109_440),
    ("dair.yaml", "m1.yaml"): (768, 226_176, 0),
    ("dair.yaml", "dair_m2.yaml"): (14_661_446, 267_136, 109_440),
    ("dair.yaml", "m3.yaml"): (699_456, 267_136, 109_440),
    ("dair.yaml", "dair_m4.yaml"): (1_560_866, 267_136, 109_440),
}


@pytest.mark.parametrize(("base", "agent"), SIZES)
def test_shipped_types_have_the_sizes_of_their_papers(base: str, agent: str) -> None:
    settings = read_agent_type(agent.removesuffix(".yaml"))
    model = make_networks(Networks(base=load_config(TrainingConfig, CONFIGS / base).base, agents={"m1": settings})).agents["m1"]
    parts = (model.get_submodule(name) for name in ("encoder", "backbone", "aligner"))
    assert tuple(sum(weight.numel() for weight in part.parameters()) for part in parts) == SIZES[base, agent]


def test_no_shipped_type_is_left_out() -> None:
    assert {agent for _, agent in SIZES} == {path.name for path in (CONFIGS / "agents").glob("*.yaml")}
