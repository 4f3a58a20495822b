"""Agreement with the ego: vehicles at other places, vehicles that were left out, and what cannot be compared."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from heal.defence.agreement import Agreement, agreement
from heal.grid import BevGrid
from heal.se3 import inverse_SE3, pose_to_SE3

GRID = BevGrid((-25.6, -25.6, -3, 25.6, 25.6, 1), 0.8)
CARS = ((10, 10), (20, 40), (45, 30), (50, 50))


def scores(*cars: tuple[int, int]) -> Tensor:
    """Return the scores of an agent that covers all of the grid: vehicles of 3 x 5 cells at these rows and columns."""
    score = torch.full((1, 1, GRID.ny, GRID.nx), 0.01)
    for row, column in cars:
        score[..., row - 1 : row + 2, column - 2 : column + 3] = 0.9
    return score


def test_agents_that_see_the_same_agree_wherever_they_stand() -> None:
    same = agreement(scores(*CARS), scores(*CARS), np.eye(4), GRID)
    assert (same.claimed, same.confirmed, same.sure, same.noticed) == (60, 1.0, 60, 1.0)
    beside = pose_to_SE3([8, 0, 0, 0, 0, 0])  # the sender stands 8 m ahead: what it sees lies 10 cells further back on its map
    moved = scores(*((row, column - 10) for row, column in CARS[1:]))
    assert agreement(scores(*CARS[1:]), moved, inverse_SE3(beside), GRID).problem(0.9, 0.9) is None


def test_a_wrong_pose_and_a_foreign_map_are_disputed_and_a_small_error_is_not() -> None:
    for off_m, is_disputed in ((0.5, False), (1.5, False), (5.0, True), (-8.0, True)):
        wrong = inverse_SE3(pose_to_SE3([0, off_m, 0, 0, 0, 0]))
        problem = agreement(scores(*CARS), scores(*CARS), wrong, GRID).problem(0.4, 0.4)
        assert (problem is not None) == is_disputed, off_m
    foreign = agreement(scores(*CARS), scores((30, 20), (15, 50), (55, 15)), np.eye(4), GRID)
    assert "confirms 0% of the vehicles" in str(foreign.problem(0.4, 0.4))


def test_vehicles_that_are_left_out_are_missed_and_more_vehicles_are_not_a_lie_by_themselves() -> None:
    erased = agreement(scores(*CARS), scores(CARS[0]), np.eye(4), GRID)
    assert erased.confirmed == 1.0 and erased.noticed == 0.25
    assert "noticed 25% of the vehicles" in str(erased.problem(0.4, 0.4))
    assert agreement(scores(*CARS), scores(*CARS, (30, 20)), np.eye(4), GRID).problem(0.4, 0.4) is None


def test_a_share_of_few_cells_has_to_be_well_below_the_least_one() -> None:
    for claimed, confirmed, disputed in ((37, 0.35, False), (37, 0.25, True), (15, 0.2, True), (14, 0.0, False)):
        assert (Agreement(claimed, confirmed, 0, 1.0).problem(0.36, 0.4) is not None) == disputed
    for sure, noticed, disputed in ((23, 0.26, False), (23, 0.2, True), (60, 0.32, True), (14, 0.0, False)):
        assert (Agreement(0, 1.0, sure, noticed).problem(0.36, 0.4) is not None) == disputed


def test_what_one_of_the_two_does_not_cover_is_not_compared() -> None:
    ego, sender = scores(*CARS[:2]), scores(*CARS[2:])
    ego[..., 40:, :], sender[..., :30, :] = 0.0, 0.0
    compared = agreement(ego, sender, np.eye(4), GRID)
    assert (compared.claimed, compared.sure) == (0, 0) and compared.problem(1.0, 1.0) is None
    few = agreement(scores(), scores((30, 20)), np.eye(4), GRID)
    assert few.claimed == 15 and few.problem(0.4, 0.4) is not None
    smaller = scores((30, 20))
    smaller[..., 29, 18] = 0.01
    assert agreement(scores(), smaller, np.eye(4), GRID).problem(0.4, 0.4) is None
