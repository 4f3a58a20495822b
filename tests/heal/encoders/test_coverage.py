"""Encoders with a range of their own: their maps are fitted to the alliance's grid, and have no weight beyond the own range."""

import numpy as np
import pytest
import torch
from torch import nn

from heal.agent_model import AgentConfig, AgentModel
from heal.base_model import BaseModel
from heal.collab_model import CollabModel
from heal.config import ConfigError, build_config, to_plain
from heal.encoders.coverage import fit_to_grid
from heal.encoders.images import ImageConfig
from heal.encoders.lift_splat import LiftSplatConfig
from heal.encoders.lift_splat_depth import DepthBinsConfig
from heal.grid import BevGrid
from heal.layers.backbone import BackboneConfig
from heal.types import AgentFrame, ObjectLabels, Scene, SceneOutline
from tests.heal.networks import AGENT, BASE, GRID, small_scene
from tests.heal.views import camera_view

CAMERA = AgentConfig(
    encoder=LiftSplatConfig(
        image=ImageConfig(size=(32, 48)),
        trunk="test_efficientnet",
        trunk_stride=8,
        drop_path=0.0,
        channels=8,
        depth=DepthBinsConfig(start_m=1.0, end_m=9.0, count=8),
        range_m=(-6.4, -9.6, -10.0, 6.4, 9.6, 10.0),
        cell_m=0.4,
    ),
    backbone=BackboneConfig(blocks=(1,), channels=(8,)),
)


def _mixed_scene() -> Scene:
    """Return a scene with a LiDAR agent, which is the ego, and a camera agent."""
    scene = small_scene(0, agents=1)
    camera = AgentFrame("c", "vehicle", 0, np.eye(4), np.eye(4), None, (camera_view(depth_m=4.0),), ObjectLabels.empty())
    return Scene(
        SceneOutline("mixed", 0, "0", ("0", "c"), scene.outline.world_SE3_ego), (*scene.frames, camera), ObjectLabels.empty()
    )


def _mixed_model() -> CollabModel:
    torch.manual_seed(0)
    return CollabModel(BaseModel(BASE), {"m1": AgentModel(AGENT, GRID), "c1": AgentModel(CAMERA, GRID)})


@pytest.mark.parametrize(
    ("cells", "wanted", "kept"),
    [(4, 4, [0, 1, 2, 3]), (3, 6, [-1, 0, 1, 2, -1, -1]), (7, 4, [2, 3, 4, 5]), (9, 4, [2, 3, 4, 5]), (6, 4, [1, 2, 3, 4])],
)
def test_maps_are_cut_or_surrounded_around_their_middle(cells: int, wanted: int, kept: list[int]) -> None:
    # (7 - 4) / 2 = 1.5 and (9 - 4) / 2 = 2.5 are both rounded to the even 2; of three missing cells, two are added behind.
    grid = BevGrid((-wanted / 2, -2.0, -1.0, wanted / 2, 2.0, 1.0), 1.0)
    row = torch.arange(cells) + 1.0
    fitted = fit_to_grid(row.expand(1, 1, 4, cells), grid)
    assert fitted.shape == (1, 1, 4, wanted)
    assert (fitted[0, 0, 0] - 1).tolist() == kept
    turned = BevGrid((-2.0, -wanted / 2, -1.0, 2.0, wanted / 2, 1.0), 1.0)
    torch.testing.assert_close(fit_to_grid(row[:, None].expand(1, 1, cells, 4), turned), fitted.transpose(2, 3))


def test_a_camera_agents_map_lies_on_the_alliances_grid() -> None:
    model = AgentModel(CAMERA, GRID).eval()
    frame = _mixed_scene().frame("c")
    maps, depth = model.forward_with_depth(model.prepare([frame]))
    assert maps.shape == (1, 8, GRID.ny, GRID.nx)  # 16 of 32 columns, the middle 16 of 24 rows
    outside = maps.clone()
    outside[..., 8:24] = 0
    assert maps.any() and not outside.any()
    assert depth is not None and depth.bins is not None
    assert model.coverage == (2.0, pytest.approx(6.4 / 9.6))


def test_a_lidar_agent_has_no_range_of_its_own_and_no_depth() -> None:
    model = AgentModel(AGENT, GRID).eval()
    assert model.coverage is None
    assert model.forward_with_depth(model.prepare([small_scene(0).frames[0]]))[1] is None
    model.load_pretrained()  # nothing to load


def test_in_evaluation_a_camera_agent_has_no_weight_beyond_its_range() -> None:
    model = _mixed_model().eval()
    batch = model.prepare([_mixed_scene()], [{"0": "m1", "c": "c1"}])
    with torch.no_grad():
        output, depths = model.forward_with_depth(batch)
        assert list(depths) == ["c1"]
        expected = model.base(model.encode(batch), batch.agent_SE3_ego, batch.agents_per_scene, [None, (2.0, 6.4 / 9.6)])
        everywhere = model.base(model.encode(batch), batch.agent_SE3_ego, batch.agents_per_scene)
        torch.testing.assert_close(output.head.classification, expected.head.classification)
        torch.testing.assert_close(model(batch).head.classification, expected.head.classification)
    assert not torch.equal(expected.head.classification, everywhere.head.classification)


def test_the_losses_of_boxes_and_depth_reach_the_whole_agent_model() -> None:
    model = _mixed_model().train()
    batch = model.prepare([_mixed_scene()], [{"0": "m1", "c": "c1"}], np.random.default_rng(0))
    output, depths = model.forward_with_depth(batch)
    bins = depths["c1"].bins
    assert bins is not None
    loss = output.head.classification.sum() + nn.functional.cross_entropy(depths["c1"].logits, bins)
    loss.backward()
    agent = model.agents["c1"]
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in agent.parameters())


def test_an_agent_type_with_cameras_is_a_file() -> None:
    assert build_config(AgentConfig, to_plain(CAMERA)) == CAMERA
    with pytest.raises(ConfigError, match="trunk_strid: unknown key; did you mean 'trunk_stride'"):
        build_config(AgentConfig, {"encoder": {"kind": "lift_splat", "trunk_strid": 8}})
    with pytest.raises(ValueError, match=r"cells of \(0.5, 0.5\) m become \(1.0, 1.0\) m"):
        AgentModel(AgentConfig(encoder=LiftSplatConfig(range_m=(-5, -5, -1, 5, 5, 1), cell_m=0.5, trunk="test_efficientnet")), GRID)
