"""The base of a single-agent detector: stages behind the agent's own map, no foreground, no fusion."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from heal.base_model import BaseConfig, BaseModel
from heal.config import ConfigError, to_plain
from heal.errors import UserError
from heal.fusion.pyramid import PyramidConfig
from heal.fusion.single_agent import SingleAgentPyramid, require_alone
from heal.layers.inference import for_inference
from tests.heal.networks import GRID, with_random_norms

PYRAMID = PyramidConfig(
    blocks=(1, 1, 2),
    channels=(8, 16, 24),
    groups=0,
    upsample_channels=(8, 8, 8),
    single_agent=True,
    spare_stride=2,
)
BASE = BaseConfig(grid=replace(GRID, range_m=(-12.8, -12.8, -3.0, 12.8, 12.8, 1.0)), in_channels=8, pyramid=PYRAMID)
ALONE = torch.eye(4, dtype=torch.float64)[None]


@pytest.fixture
def base() -> BaseModel:
    torch.manual_seed(0)
    return with_random_norms(BaseModel(BASE)).eval()  # type: ignore[return-value]


@torch.no_grad()
def test_the_first_scale_is_the_agents_own_map_and_the_first_stage_is_not_used(base: BaseModel) -> None:
    features, pyramid = torch.randn(1, 8, 32, 32), base.pyramid_backbone
    assert isinstance(pyramid, SingleAgentPyramid)
    second = pyramid.resnet.get_submodule("layer1")(features)
    expected = pyramid.deblocks([features, second, pyramid.resnet.get_submodule("layer2")(second)])
    # Beyond the range of an agent's sensors its map counts all the same: nothing else is there.
    for coverage in (None, (2.0, 2.0)):
        assert torch.equal(base.fuse(base.trunk(features), ALONE, [1], [coverage]), expected)
    before = base(features, ALONE, [1]).head.classification
    for weight in pyramid.resnet.get_submodule("layer0").parameters():
        weight.fill_(float("nan"))
    assert torch.equal(base(features, ALONE, [1]).head.classification, before)
    assert pyramid.resnet.get_submodule("layer0")[0].conv1.stride == (2, 2)  # type: ignore[index, union-attr]


@torch.no_grad()
def test_a_fast_copy_detects_the_same(base: BaseModel) -> None:
    features = torch.randn(1, 8, 32, 32)
    for found, expected in zip(
        vars(for_inference(base)(features, ALONE, [1]).head).values(), vars(base(features, ALONE, [1]).head).values(), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_several_scenes_of_one_agent_are_fine_and_several_agents_are_refused(base: BaseModel) -> None:
    features, poses = torch.randn(2, 8, 32, 32), ALONE.repeat(2, 1, 1)
    assert base(features, poses, [1, 1]).head.classification.shape[0] == 2
    with pytest.raises(UserError, match="does not fuse feature maps of several agents"):
        base(features, poses, [2])
    require_alone(PYRAMID, 1)
    require_alone(PyramidConfig(), None)
    for agents in (2, None):
        with pytest.raises(UserError, match="--agents 1"):
            require_alone(PYRAMID, agents)


def test_scales_that_do_not_start_with_the_agents_map_are_refused() -> None:
    with pytest.raises(UserError, match=r"first stride has to be 1, got \(2, 2, 2\)"):
        replace(PYRAMID, strides=(2, 2, 2))
    with pytest.raises(UserError, match="own map of 16 channels"):
        BaseModel(replace(BASE, in_channels=16))
    with pytest.raises(ConfigError, match="multiple of 4 cells"):
        replace(BASE, grid=replace(BASE.grid, range_m=(-12.8, -12.0, -3.0, 12.8, 12.0, 1.0)))


def test_bases_that_fuse_keep_their_hashes() -> None:
    assert not {"single_agent", "spare_stride"} & set(to_plain(BaseConfig(), hashed=True)["pyramid"])
