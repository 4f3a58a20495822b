"""What sensors cover: where an agent knows nothing it has no weight in the fusion."""

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pytest
import torch

from heal.agent_model import AgentConfig, AgentModel
from heal.collab_model import CollabModel
from heal.encoders.covered import BEHIND_M, camera_blocks, lidar_blocks
from heal.errors import UserError
from heal.grid import BevGrid, block_shape
from heal.types import LidarScan, ObjectLabels, Scene, SceneOutline
from tests.heal.encoders.test_coverage import CAMERA
from tests.heal.networks import AGENT, GRID, small_model, small_scene
from tests.heal.views import camera_frame, camera_view

WIDE = BevGrid((-51.2, -25.6, -3.0, 51.2, 25.6, 1.0), 0.8)
EVERYWHERE = (-100.0, -100.0, -10.0, 100.0, 100.0, 10.0)


def _centres(grid: BevGrid) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = block_shape(grid.ny, grid.nx)
    return np.meshgrid(grid.range_m[0] + 3.2 * np.arange(0.5, columns), grid.range_m[1] + 3.2 * np.arange(0.5, rows))


def test_a_wall_hides_what_lies_behind_it() -> None:
    angle = np.radians(np.arange(-180.0, 180.0, 0.5))
    reach_m = np.where(np.abs(angle) < np.radians(40), 10.0, 60.0)
    points = np.stack([reach_m * np.cos(angle), reach_m * np.sin(angle), 0 * angle], axis=1).astype(np.float32)
    x, y = _centres(WIDE)
    in_shadow = (np.abs(np.degrees(np.arctan2(y, x))) < 30) & (np.hypot(x, y) > 10.0 + BEHIND_M + 2.3)
    in_front = (np.abs(np.degrees(np.arctan2(y, x))) < 30) & (np.hypot(x, y) < 10.0)
    aside = np.abs(np.degrees(np.arctan2(y, x))) > 50
    covered = lidar_blocks(points, WIDE)
    assert in_shadow.any() and not covered[in_shadow].any()
    assert covered[in_front].all() and covered[aside].all()


def test_a_scan_without_returns_covers_nothing() -> None:
    assert not lidar_blocks(np.zeros((0, 4), np.float32), WIDE).any()


def test_a_camera_covers_its_frustum_up_to_its_depth_and_range() -> None:
    # 80 pixels wide at a focal length of a little more than 40: not quite 45 degrees to each side.
    x, y = _centres(WIDE)
    covered = camera_blocks([camera_view(focal_px=40.1)], WIDE, EVERYWHERE, 30.0)
    # A block counts if any quarter of it is seen: its nearest quarter along the border of 45 degrees, or its far end.
    np.testing.assert_array_equal(covered, (x > 0) & (x - 0.8 <= 30.0) & (np.abs(y) - 0.8 < x + 0.8))
    behind = camera_blocks([camera_view(yaw_deg=180.0, focal_px=40.1)], WIDE, (-16.0, -16.0, -3.0, 16.0, 16.0, 1.0), 30.0)
    np.testing.assert_array_equal(behind, (x < 0) & (x >= -16.0) & (np.abs(y) < 16.0) & (np.abs(y) - 0.8 < 0.8 - x))
    both = camera_blocks([camera_view(), camera_view(yaw_deg=180.0, focal_px=40.1)], WIDE, EVERYWHERE, 30.0)
    assert both.sum() > covered.sum() and both[covered].all()


def _blind_scene() -> Scene:
    """Return a scene of an ego and an agent at another place without any LiDAR return."""
    scene = small_scene(0, agents=2)
    ego, other = scene.ego_first
    blind = replace(other, lidar=LidarScan(np.zeros((0, 4), np.float32)))
    outline = SceneOutline("blind", 0, ego.agent_id, (ego.agent_id, blind.agent_id), ego.world_SE3_agent)
    return Scene(outline, (ego, blind), ObjectLabels.empty())


def test_an_agent_that_sees_nothing_changes_nothing_in_training_and_evaluation() -> None:
    torch.manual_seed(0)
    model = small_model()
    sighted = CollabModel(model.base, {"m1": AgentModel(replace(AGENT, cell_coverage=True), GRID)})
    sighted.agent("m1").load_state_dict(model.agent("m1").state_dict())
    scene = _blind_scene()
    alone = Scene(replace(scene.outline, agent_ids=(scene.outline.ego_id,)), (scene.ego,), scene.objects)
    types = dict.fromkeys(scene.outline.agent_ids, "m1")
    for training in (True, False):
        for part in (model, sighted):
            part.base.pyramid_backbone.train(training)
            part.agent("m1").eval()
            part.base.pyramid_backbone.resnet.eval()
        found = [part(part.prepare([of], [types])).head.classification for part in (model, sighted) for of in (scene, alone)]
        assert not torch.allclose(found[0], found[1], atol=1e-3)  # HEAL's weights: the empty map is mixed into the ego's
        torch.testing.assert_close(found[2], found[3], atol=1e-5, rtol=1e-5)


def test_a_camera_type_tells_its_own_blocks() -> None:
    model = AgentModel(replace(CAMERA, cell_coverage=True), GRID)
    blocks = model.covered_blocks(camera_frame(camera_view(focal_px=40.1)))
    assert blocks is not None and blocks.shape == block_shape(GRID.ny, GRID.nx)
    x, y = _centres(GRID)
    np.testing.assert_array_equal(blocks, (x > 0) & (x <= 6.4) & (np.abs(y) - 0.8 < x + 0.8))
    assert AgentModel(CAMERA, GRID).covered_blocks(camera_frame(camera_view())) is None


@dataclass(frozen=True)
class _OwnEncoder:
    """The settings of an encoder of somebody's own."""

    senses: str


def test_cells_in_view_are_refused_for_encoders_of_which_they_are_not_known() -> None:
    AgentConfig(encoder=cast(Any, _OwnEncoder("lidar")), cell_coverage=True)
    with pytest.raises(UserError, match=r"cell_coverage=true: .* not for _OwnEncoder; leave the setting out"):
        AgentConfig(encoder=cast(Any, _OwnEncoder("camera")), cell_coverage=True)
