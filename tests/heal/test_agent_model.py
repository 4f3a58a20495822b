"""The network of an agent type: refused settings and inputs, ignored points, and empty clouds."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from heal.agent_model import AgentConfig, AgentModel
from heal.encoders.point_pillars import PointPillarsConfig
from heal.layers.backbone import BackboneConfig
from heal.types import AgentFrame, LidarScan
from tests.heal.networks import AGENT, GRID, small_scene


def _frame(points: np.ndarray) -> AgentFrame:
    return replace(small_scene(0).ego, lidar=LidarScan(points.astype(np.float32)))


def test_an_empty_cloud_still_gives_a_map() -> None:
    model = AgentModel(AGENT, GRID).eval()
    frames = [_frame(np.zeros((0, 4))), small_scene(0).ego]
    with torch.no_grad():
        maps = model(model.prepare(frames))
    assert maps.shape == (2, 8, GRID.ny, GRID.nx) and maps.isfinite().all()


def test_points_on_the_own_vehicle_and_nan_points_are_left_out() -> None:
    points = np.array([(0.0, 0.0, 0.0, 1.0), (np.nan, 5.0, 0.0, 1.0), (np.inf, 5.0, 0.0, 1.0), (4.0, 2.0, 0.0, 1.0)])
    voxels = AgentModel(AGENT, GRID).prepare([_frame(points)])
    np.testing.assert_array_equal(voxels.points[voxels.num_points > 0][:, 0], [(4.0, 2.0, 0.0, 1.0)])


def test_evaluation_is_the_same_every_time_and_training_shuffles() -> None:
    model = AgentModel(AgentConfig(encoder=PointPillarsConfig(max_points=1)), GRID)
    frames = [small_scene(0).ego]
    first = model.prepare(frames)
    assert torch.equal(first.points, model.prepare(frames).points)
    assert not torch.equal(first.points, model.prepare(frames, np.random.default_rng(0)).points)


def test_an_agent_without_lidar_is_named() -> None:
    with pytest.raises(ValueError, match="agent '0' has no LiDAR scan"):
        AgentModel(AGENT, GRID).prepare([replace(small_scene(0).ego, lidar=None)])


@pytest.mark.parametrize(
    "settings",
    [
        AgentConfig(backbone=BackboneConfig(strides=(1,))),
        AgentConfig(encoder=PointPillarsConfig(pillar_m=(0.8, 0.8))),
        AgentConfig(encoder=PointPillarsConfig(pillar_m=(0.4, 0.8))),
    ],
)
def test_cells_that_are_not_the_alliances_are_refused(settings: AgentConfig) -> None:
    with pytest.raises(ValueError, match=re.escape("alliance's grid has cells of 0.8 m")):
        AgentModel(settings, GRID)


def test_a_backbone_of_several_stages_may_enlarge_again() -> None:
    backbone = BackboneConfig(blocks=(1, 1), strides=(2, 2), channels=(8, 16), upsample_strides=(1, 2), upsample_channels=(4, 4))
    model = AgentModel(AgentConfig(encoder=PointPillarsConfig(channels=(8,)), backbone=backbone), GRID).eval()
    with torch.no_grad():
        assert model(model.prepare([small_scene(0).ego])).shape == (1, 8, GRID.ny, GRID.nx)
