"""Properties of the networks that hold for any weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from heal.base_model import BaseModel
from heal.encoders.voxelize import VoxelGrid, voxelize
from heal.fusion.warp import coverage_mask, warp_to_ego
from heal.grid import BevGrid
from heal.se3 import pose_to_SE3, relative_SE3
from tests.heal.networks import BASE, GRID, small_model, small_scene

VOXELS = VoxelGrid((0.0, 0.0, 0.0, 4.0, 2.0, 1.0), (1.0, 1.0, 1.0), max_points=2, max_voxels=3)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _poses(*xy_yaw: tuple[float, float, float]) -> Tensor:
    """Return agent_SE3_ego of agents with poses x, y, yaw relative to an ego at the origin."""
    ego = np.eye(4)
    return torch.from_numpy(np.stack([relative_SE3(pose_to_SE3([x, y, 0, 0, yaw, 0]), ego) for x, y, yaw in xy_yaw]))


def test_voxels_keep_the_first_points_in_the_order_in_which_cells_are_reached() -> None:
    xy = [(3.5, 0.5), (0.5, 1.5), (3.6, 0.5), (3.7, 0.5), (4.0, 0.5), (1.5, 0.5), (2.5, 0.5)]
    cloud = np.array([(x, y, 0.5, i) for i, (x, y) in enumerate(xy)], np.float32)
    found = voxelize([cloud], VOXELS)
    # The third point of the first cell is dropped, the point on the upper bound is outside, the fourth cell exceeds the limit.
    np.testing.assert_array_equal(found.coords, [(0, 0, 0, 3), (0, 0, 1, 0), (0, 0, 0, 1)])
    np.testing.assert_array_equal(found.num_points, [2, 1, 1])
    np.testing.assert_array_equal(found.points[..., 3], [(0, 2), (1, 0), (5, 0)])


def test_a_cloud_without_points_still_counts() -> None:
    empty, one = np.zeros((0, 4), np.float32), np.array([(0.5, 0.5, 0.5, 1.0)], np.float32)
    found = voxelize([empty, one, empty], VOXELS)
    assert found.batch_size == 3 and found.coords[:, 0].tolist() == [1]


def test_warping_with_the_identity_changes_nothing() -> None:
    maps = torch.rand(2, 3, GRID.ny, GRID.nx)
    torch.testing.assert_close(warp_to_ego(maps, _poses((0, 0, 0), (0, 0, 0)), GRID), maps, atol=1e-5, rtol=0)


def test_an_agent_some_cells_ahead_shifts_its_map_by_as_many() -> None:
    maps = torch.rand(1, 2, GRID.ny, GRID.nx)
    moved = warp_to_ego(maps, _poses((3 * GRID.cell_m, 2 * GRID.cell_m, 0)), GRID)
    torch.testing.assert_close(moved[..., 2:, 3:], maps[..., :-2, :-3], atol=1e-5, rtol=0)
    assert not moved[..., :2, :].any() and not moved[..., :3].any()


def test_an_agent_facing_backwards_shows_its_map_turned_round() -> None:
    maps = torch.rand(1, 2, GRID.ny, GRID.nx)
    torch.testing.assert_close(warp_to_ego(maps, _poses((0, 0, 180)), GRID), maps.flip(2, 3), atol=1e-4, rtol=0)


def test_half_precision_moves_maps_as_far_as_single_does() -> None:
    maps = torch.rand(1, 2, GRID.ny, GRID.nx).bfloat16()
    poses = _poses((1.37, -2.21, 33.0))
    moved = warp_to_ego(maps, poses, GRID)
    assert moved.dtype == torch.bfloat16
    torch.testing.assert_close(moved.float(), warp_to_ego(maps.float(), poses, GRID), atol=4e-3, rtol=0)


def test_the_covered_window_never_leaves_the_map() -> None:
    assert coverage_mask((1.0, 1.0), 16, 32).sum() == 12 * 28
    assert coverage_mask((2.0, 1.0), 16, 32).nonzero().amin(0).tolist() == [2, 10]
    assert coverage_mask((0.4, 0.4), 16, 32).all()


_WEIGHTS: tuple[dict[str, float], ...] = ({}, {"sharpness": 6.0}, {"gate": 0.1})


@pytest.fixture
def base() -> BaseModel:
    return BaseModel(BASE).eval()


def _fused(base: BaseModel, features: Tensor, poses: Tensor, counts: list[int]) -> Tensor:
    with torch.no_grad():
        return base.fuse(base.trunk(features), poses, counts)


def test_the_order_of_the_others_does_not_matter(base: BaseModel) -> None:
    features, poses = torch.rand(3, 8, GRID.ny, GRID.nx), _poses((0, 0, 0), (4, 1, 30), (-3, 2, 200))
    swapped = [0, 2, 1]
    torch.testing.assert_close(_fused(base, features, poses, [3]), _fused(base, features[swapped], poses[swapped], [3]))


def test_an_agent_out_of_reach_changes_nothing(base: BaseModel) -> None:
    features, poses = torch.rand(2, 8, GRID.ny, GRID.nx), _poses((0, 0, 0), (500, 0, 0))
    torch.testing.assert_close(_fused(base, features, poses, [2]), _fused(base, features[:1], poses[:1], [1]), atol=1e-4, rtol=1e-4)


def test_scenes_of_a_batch_do_not_mix(base: BaseModel) -> None:
    features, poses = torch.rand(3, 8, GRID.ny, GRID.nx), _poses((0, 0, 0), (4, 1, 30), (0, 0, 0))
    together = _fused(base, features, poses, [2, 1])
    torch.testing.assert_close(together[:1], _fused(base, features[:2], poses[:2], [2]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together[1:], _fused(base, features[2:], poses[2:], [1]), atol=1e-5, rtol=1e-5)


def test_a_single_agent_is_fused_alone(base: BaseModel) -> None:
    features = torch.rand(2, 8, GRID.ny, GRID.nx)
    with torch.no_grad():
        levels = base.trunk(features)
        joined = base.pyramid_backbone.join(levels.maps)
    torch.testing.assert_close(_fused(base, features, _poses((0, 0, 0), (0, 0, 0)), [1, 1]), joined)


def test_a_camera_agent_has_no_weight_outside_its_own_grid(base: BaseModel) -> None:
    features, poses = torch.rand(2, 8, GRID.ny, GRID.nx), _poses((0, 0, 0), (0, 0, 0))
    with torch.no_grad():
        levels = base.trunk(features)
        fused = base.pyramid_backbone.fuse_levels(levels, poses, [2], [None, (2.0, 1.0)])[0][0]
        both = base.pyramid_backbone.fuse_levels(levels, poses, [2])[0][0]
    # Columns: half of 32, less four: the central 12. Rows: two fewer at each side.
    window = (slice(None), slice(2, GRID.ny - 2), slice(10, 22))
    torch.testing.assert_close(fused[window], both[window])
    outside = torch.ones(GRID.ny, GRID.nx, dtype=torch.bool)
    outside[window[1:]] = False
    torch.testing.assert_close(fused[:, outside], levels.maps[0][0][:, outside], atol=1e-5, rtol=0)


def test_a_sharp_softmax_and_a_gate_leave_the_ego_its_weight() -> None:
    torch.manual_seed(0)
    soft, sharp, gated = (BaseModel(replace(BASE, pyramid=replace(BASE.pyramid, **part))).eval() for part in _WEIGHTS)
    poses = _poses((0, 0, 0), (0.4, 0, 0), (0.4, 0, 0))
    high, low = torch.full((1, 1, GRID.ny, GRID.nx), 0.9), torch.full((1, 1, GRID.ny, GRID.nx), 0.05)

    def shares(base: BaseModel, scores: list[Tensor], ego_first: bool = True, trust: Tensor | None = None) -> list[float]:
        """Return the weights of the agents, from maps of which each is 1 in a channel of its own."""
        maps = [torch.eye(3)[i].reshape(1, 3, 1, 1).expand(1, 3, GRID.ny, GRID.nx) for i in range(3)]
        fused = base.pyramid_backbone.fuse_scored([maps], [scores], poses, [3], trust, ego_first)[0]
        return [round(float(part), 3) for part in fused[0, :, 2, 2]]

    e, s = np.exp(0.9), np.exp(0.05)
    assert shares(soft, [high, low, low]) == [round(part / (e + 2 * s), 3) for part in (e, s, s)]
    assert shares(sharp, [high, low, low])[0] > 0.98
    assert shares(gated, [low, low, high]) == [round(part / (s * 1.01 + e), 3) for part in (s, 0.01 * s, e)]
    # However little the ego's type is trusted, what senders do not see counts less than what it does not see.
    modest = torch.tensor([0.03, 1.0, 0.5])
    assert shares(gated, [low, low, low], trust=modest) == [0.98, 0.01, 0.01]
    assert shares(gated, [low, high, low], trust=modest)[1] > 0.98
    # Without an ego, the gate divides alike.
    assert shares(gated, [low, low, low], ego_first=False) == [0.333, 0.333, 0.333]


def test_maps_and_poses_must_agree(base: BaseModel) -> None:
    features = torch.rand(3, 8, GRID.ny, GRID.nx)
    with pytest.raises(ValueError, match="3 maps, 2 poses"):
        base(features, _poses((0, 0, 0), (1, 0, 0)), [3])
    with pytest.raises(ValueError, match=r"\[3, 0\] agents"):
        base(features, _poses((0, 0, 0), (1, 0, 0), (2, 0, 0)), [3, 0])


def test_gradients_reach_every_weight() -> None:
    model = small_model().train()
    scene = small_scene(0)
    output = model(model.prepare([scene], [dict.fromkeys(scene.outline.agent_ids, "m1")]))
    parts = (output.head.classification, output.head.regression, output.head.direction, *output.occupancy)
    sum((part.square().sum() for part in parts), torch.zeros(())).backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def test_a_batch_of_scenes_equals_its_scenes_one_by_one() -> None:
    model = small_model().eval()
    scenes = [small_scene(1), small_scene(2, agents=3), small_scene(3, agents=1)]
    types = [dict.fromkeys(scene.outline.agent_ids, "m1") for scene in scenes]
    with torch.no_grad():
        together = model(model.prepare(scenes, types)).head.classification
        for i, scene in enumerate(scenes):
            alone = model(model.prepare([scene], [types[i]])).head.classification
            torch.testing.assert_close(together[i : i + 1], alone, atol=1e-4, rtol=1e-4)


def test_a_grid_must_be_centred_and_filled_by_its_cells() -> None:
    with pytest.raises(ValueError, match="centred"):
        BevGrid((0.0, -6.4, -3.0, 12.8, 6.4, 1.0), 0.8)
    with pytest.raises(ValueError, match="whole number"):
        BevGrid((-12.8, -6.4, -3.0, 12.8, 6.4, 1.0), 0.7)
    assert BevGrid((-409.6, -409.6, -3.0, 409.6, 409.6, 1.0), 0.8).nx == 1024
    for edge_m, cell_m in ((410.4, 0.8), (12.8, 1e-320), (1e300, 0.8)):
        with pytest.raises(ValueError, match="at most 1048576 cells"):
            BevGrid((-edge_m, -edge_m, -3.0, edge_m, edge_m, 1.0), cell_m)
