"""Free space: an empty road is free, nothing is free where something stands or behind it, and claims there have no weight."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from heal.defence.free_space import AWAY_M, folded, free_cells, without_weight_in
from heal.grid import BevGrid
from heal.se3 import pose_to_SE3, relative_SE3
from heal.types import BoolMask, Float32
from tests.heal.defence.rays import CAR_M, cloud

GRID = BevGrid((-51.2, -51.2, -3, 51.2, 51.2, 1), 0.8)


def _middles() -> tuple[np.ndarray, np.ndarray]:
    middles = -51.2 + 0.8 * (np.arange(128) + 0.5)
    return middles[None, :], middles[:, None]


def _within(x_m: float, y_m: float, length_m: float, width_m: float) -> BoolMask:
    x, y = _middles()
    return np.asarray((abs(x - x_m) <= length_m / 2) & (abs(y - y_m) <= width_m / 2))


def test_an_empty_road_is_free_around_the_sensor_and_not_where_no_ray_comes() -> None:
    free, distance_m = free_cells(cloud(), GRID), np.hypot(*_middles())
    assert free[(distance_m > 5) & (distance_m < 35)].mean() > 0.99
    assert not free[distance_m < 2].any()  # the lowest rays meet the ground 4 m away
    assert not free_cells(np.zeros((0, 4), np.float32), GRID).any()
    far = np.array([[1e30, 0, -1, 0], [0, -1e9, -1e3, 0], [np.nan, 1, 0, 0]], np.float32)
    assert np.array_equal(free_cells(np.concatenate([far, cloud()]), GRID), free)


@pytest.mark.parametrize("place", [(12.0, 0.0), (8.0, 8.0), (-3.0, 20.0), (25.0, -6.0)])
def test_no_cell_of_a_car_is_free_nor_any_in_its_shadow(place: tuple[float, float]) -> None:
    free, (x, y) = free_cells(cloud(place), GRID), place
    assert not free[_within(x, y, CAR_M[0] + 0.8, CAR_M[1] + 0.8)].any()
    behind = 1 + 4.0 / np.hypot(x, y)  # the car hides the ground 4 m further out
    assert not free[_within(x * behind, y * behind, 0.8, 0.8)].any()
    assert free[_within(-x, -y, *CAR_M[:2])].all()  # the other side of the road is free


def test_nothing_is_free_within_or_behind_a_wall_and_the_road_before_it_is() -> None:
    free = free_cells(cloud((15.5, 0.0, 1.0, 100.0, 4.0)), GRID)
    x, y = _middles()
    assert not free[(x > 15.0 - AWAY_M + 0.8) & (abs(y) < 40)].any()
    assert free[(x > 5) & (x < 12) & (abs(y) < 10)].all()


def test_what_passes_overhead_hides_nothing_and_a_car_on_a_hill_is_seen() -> None:
    road = cloud()
    bridge = np.full((500, 4), 2.5, np.float32)  # 4.4 m above the ground, between x and y of 9 and 10 m
    bridge[:, :2] = np.random.default_rng(0).uniform(9, 10, (500, 2))
    assert np.array_equal(free_cells(np.concatenate([road, bridge]), GRID), free_cells(road, GRID))
    for slope in (-0.06, 0.06):
        on_hill = free_cells(cloud((16.0, 0.0), slope=slope), GRID)
        assert not on_hill[_within(16, 0, *CAR_M[:2])].any()
        assert on_hill[_within(-8, 4, *CAR_M[:2])].all()


def test_the_cells_do_not_depend_on_the_order_of_the_returns() -> None:
    points: Float32 = cloud((12.0, 4.0))
    assert np.array_equal(free_cells(points, GRID), free_cells(points[::-1], GRID))


def test_a_coarse_cell_is_free_if_all_of_its_cells_are() -> None:
    free = np.ones((5, 8), np.bool_)
    free[1, 2] = free[4, 7] = False
    assert folded(free, (5, 8)).tolist() == free.tolist()
    assert folded(free, (3, 4)).tolist() == [[True, False, True, True], [True] * 4, [True, True, True, False]]


def test_a_planted_car_has_no_weight_and_a_true_one_keeps_its_own_wherever_the_sender_stands() -> None:
    free = torch.from_numpy(free_cells(cloud((12.0, 0.0)), GRID))[None, None].float()
    world_SE3_ego, world_SE3_sender = pose_to_SE3([100, 50, 2, 0, 30, 0]), pose_to_SE3([104, 47, 4, 0, 120, 1])
    ego_SE3_sender = relative_SE3(world_SE3_ego, world_SE3_sender)
    scores = tuple(torch.rand(1, 1, 128 // step, 128 // step, generator=torch.Generator().manual_seed(step)) for step in (1, 2, 4))
    changed = without_weight_in(free, scores, ego_SE3_sender, GRID)
    for score, now in zip(scores, changed, strict=True):
        step_m = 0.8 * 128 / score.shape[-1]

        def at(x_m: float, y_m: float, score: torch.Tensor = score, now: torch.Tensor = now, step_m: float = step_m) -> bool:
            """Return whether the sender's score at a place in the ego's frame is as it was; else it has to be 0."""
            x, y, _, _ = np.linalg.inv(ego_SE3_sender) @ (x_m, y_m, -1.9, 1)
            row, column = int((y + 51.2) // step_m), int((x + 51.2) // step_m)
            assert now[0, 0, row, column] in (0, score[0, 0, row, column])
            return bool(now[0, 0, row, column] == score[0, 0, row, column])

        assert all(at(x, y) for x in (10.5, 12.0, 13.5) for y in (-0.5, 0.5))  # the car
        assert at(20.0, 0.0) and at(1.0, 0.0)  # its shadow, and the ground below the lowest rays
        assert not any(at(x, y) for x in (-14.0, -12.0, -10.0) for y in (-4.0, 0.0, 4.0))
    assert torch.equal(changed[0], without_weight_in(free, scores[:1], ego_SE3_sender, GRID)[0])
    nowhere = without_weight_in(torch.zeros_like(free), scores, ego_SE3_sender, GRID)
    assert all(torch.equal(score, same) for score, same in zip(scores, nowhere, strict=True))
