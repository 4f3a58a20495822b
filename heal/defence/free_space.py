"""Ground that an agent's own LiDAR saw to be empty: cells that rays crossed just above the ground, where no vehicle can stand."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from heal.defence.agreement import CLAIMED, moved_map
from heal.grid import BevGrid
from heal.types import BoolMask, Float32, Float64, Int64

CLEARANCE_M = 0.6
"""How high above the ground a ray may cross a cell that it shows to be empty: bonnets are higher."""

GROUND_M = 0.3
"""How high above the lowest return around it a return may lie to count as one from the ground."""

BEFORE_M = 0.5
"""How far before its return a ray stops to show that cells are empty."""

AWAY_M = 1.6
"""How far from all that stands on the ground a cell is empty: errors of poses, and the sides of a vehicle that no ray touched."""

LOW_M = 1.0
"""How far below the sensor the ground has to lie for a ray to show anything."""

MOST_CLAIMED_M2 = 5.0
"""How much free ground a sender may claim to be covered by vehicles, more than half a car: none of honest senders is."""

_DIRECTIONS, _STEP_M = 720, 0.4
_SECTORS, _RING_M, _RINGS = 72, 2.0, 2  # of the lowest returns, and how many rings around a return are compared
_GRADE = 0.1  # the ground may rise by so much from ring to ring, in metres per metre
_WHOLLY = 0.99  # share of free ground around a point that lies in free space
_HIGH_M = 3.0  # above the ground; a vehicle passes below what is higher


def free_cells(points: Float32, grid: BevGrid) -> BoolMask:
    """Return the cells (ny, nx) of the grid where no vehicle can stand, because rays of a LiDAR crossed them just above the ground.

    A ray to a return from the ground shows this where it is less than `CLEARANCE_M` above the ground, up to `BEFORE_M` before the
    return. A cell is free if rays crossed it and the eight cells around it, and no return above the ground lies within `AWAY_M`.

    Args:
        points: (N, 3 or more) returns, x, y, z, ... in metres in a frame with the sensor at the origin and z up.
        grid: of the maps, in the same frame.
    """
    steps = _steps(grid)
    near = np.hypot(points[:, 0], points[:, 1]) < 2 * steps * _STEP_M  # rays that go further are too high above the grid
    x, y, z = (points[near, axis].astype(np.float64) for axis in range(3))
    distance_m, turns = np.hypot(x, y), np.arctan2(y, x) / (2 * np.pi) + 0.5
    ground_m = _ground(distance_m, turns, z)
    above_m = z - ground_m
    low = (above_m <= GROUND_M) & (ground_m <= -LOW_M)
    crossed = _crossed(distance_m[low], turns[low], ground_m[low], z[low], steps)
    missed = _grown(~crossed[_polar_cells(grid)], 1)
    free: BoolMask = ~missed & ~_near_cells(x, y, ~low & (above_m < _HIGH_M), grid)
    return free


def folded(free: BoolMask, shape: Sequence[int]) -> BoolMask:
    """Return which cells of a coarser or equally fine map of `shape` (ny, nx) have no cell in them that is not free."""
    taken = _pooled(torch.from_numpy(~free)[None, None].float(), shape)
    return np.asarray(taken[0, 0].numpy() == 0, dtype=np.bool_)


def without_weight_in(free: Tensor, scores: Sequence[Tensor], ego_SE3_agent: Float64, grid: BevGrid) -> tuple[Tensor, ...]:
    """Return the scores of a sender with 0 in the cells that the ego saw to be empty, so that the sender has no weight there.

    Args:
        free: (1, 1, ny, nx) float32, 1 in the cells of the finest scale that the ego's LiDAR saw to be empty.
        scores: per scale (1, 1, ny, nx) the sender's, in its own frame.
        ego_SE3_agent: (4, 4) float64, maps the sender's coordinates into the ego's frame.
        grid: of the maps.
    """
    taken = (moved_map(free, ego_SE3_agent, grid) < _WHOLLY).float()
    return tuple(torch.where(_pooled(taken, score.shape[-2:]) > 0, score, 0.0) for score in scores)


def claims_in(free: Tensor, score: Tensor, ego_SE3_agent: Float64, grid: BevGrid) -> str | None:
    """Return why a sender claims too many vehicles on ground that the ego saw to be empty; None if it does not.

    Args:
        free: as for `without_weight_in`.
        score: (1, 1, ny, nx) the sender's score of its finest scale, in its own frame.
        ego_SE3_agent: (4, 4) float64, maps the sender's coordinates into the ego's frame.
        grid: of the maps.
    """
    [kept] = without_weight_in(free, [score], ego_SE3_agent, grid)
    cells = int(((score > CLAIMED) & (kept == 0)).sum())
    claimed_m2 = cells * grid.length_x_m * grid.length_y_m / score.numel()
    if claimed_m2 <= MOST_CLAIMED_M2:
        return None
    return f"it claims vehicles on {claimed_m2:.0f} m² of ground that the ego saw to be empty, allowed are {MOST_CLAIMED_M2:g}"


def _pooled(taken: Tensor, shape: Sequence[int]) -> Tensor:
    """Return a map (1, 1, *shape) with the largest of the cells (1, 1, ny, nx) that lie in each of its cells."""
    size = -(-taken.shape[-2] // shape[0]), -(-taken.shape[-1] // shape[1])
    return F.max_pool2d(taken, size, size, ceil_mode=True)


def _ground(distance_m: Float64, turns: Float64, z: Float64) -> Float64:
    """Return the height of the ground at each return (N,): the lowest return around it, if the ground may rise between the two."""
    rings = (distance_m / _RING_M).astype(np.int64)
    sectors = (turns * _SECTORS).astype(np.int64) % _SECTORS
    lowest = np.full((_SECTORS, int(rings.max(initial=0)) + 1 + 2 * _RINGS), np.inf)
    np.minimum.at(lowest, (sectors, rings + _RINGS), z)
    lowest = np.minimum(lowest, np.minimum(np.roll(lowest, 1, 0), np.roll(lowest, -1, 0)))
    for _ in range(_RINGS):
        beside = np.minimum(lowest[:, 2:], lowest[:, :-2]) + _GRADE * _RING_M
        lowest[:, 1:-1] = np.minimum(lowest[:, 1:-1], beside)
    around: Float64 = lowest[sectors, rings + _RINGS]
    return around


def _crossed(distance_m: Float64, turns: Float64, ground_m: Float64, z: Float64, steps: int) -> BoolMask:
    """Return which steps of each direction (_DIRECTIONS, steps) rays to returns from the ground crossed close above it."""
    begin = np.ceil((ground_m + CLEARANCE_M) / z * distance_m / _STEP_M).astype(np.int64)
    end = np.floor((distance_m - BEFORE_M) / _STEP_M).astype(np.int64)
    some = (begin < end) & (begin < steps)
    direction = (turns[some] * _DIRECTIONS).astype(np.int64) % _DIRECTIONS
    rises = np.zeros((_DIRECTIONS, steps + 1), np.int64)
    np.add.at(rises, (direction, begin[some]), 1)
    np.add.at(rises, (direction, np.minimum(end[some], steps)), -1)
    crossed: BoolMask = rises[:, :-1].cumsum(axis=1) > 0
    return crossed


def _near_cells(x: Float64, y: Float64, chosen: BoolMask, grid: BevGrid) -> BoolMask:
    """Return the cells (ny, nx) within `AWAY_M` of any chosen return."""
    columns = np.floor((x[chosen] - grid.range_m[0]) / grid.cell_m).astype(np.int64)
    rows = np.floor((y[chosen] - grid.range_m[1]) / grid.cell_m).astype(np.int64)
    inside = (rows >= 0) & (rows < grid.ny) & (columns >= 0) & (columns < grid.nx)
    held = np.zeros((grid.ny, grid.nx), np.bool_)
    held[rows[inside], columns[inside]] = True
    return _grown(held, max(round(AWAY_M / grid.cell_m), 1))


def _grown(cells: BoolMask, by: int) -> BoolMask:
    """Return the cells (ny, nx) with those that are up to `by` cells away."""
    grown: BoolMask = F.max_pool2d(torch.from_numpy(cells)[None, None].float(), 2 * by + 1, 1, by)[0, 0].numpy() > 0
    return grown


def _steps(grid: BevGrid) -> int:
    """Return the number of steps from the sensor to the farthest corner of the grid."""
    return int(np.ceil(np.hypot(*np.abs(np.array(grid.range_m).reshape(2, 3)[:, :2]).max(axis=0)) / _STEP_M)) + 1


@cache
def _polar_cells(grid: BevGrid) -> tuple[Int64, Int64]:
    """Return the directions and the steps in which the middles of the cells (ny, nx) lie."""
    x, along_y = grid.centres_m
    y = along_y[:, None]
    directions = ((np.arctan2(y, x) / (2 * np.pi) + 0.5) * _DIRECTIONS).astype(np.int64) % _DIRECTIONS
    return directions, (np.hypot(x, y) / _STEP_M).astype(np.int64)
