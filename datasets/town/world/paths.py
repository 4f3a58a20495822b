"""Paths of vehicles along the lanes of the streets, with turns at the crossings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heal.datasets.town.world.streets import Street, TownMap
from heal.types import Float64, Int64

STEP_M = 0.25  # between the samples of a path
STOP_LINE_M = 4.6  # before the crossing street
_DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # (du, dv) of directions 0 to 3


@dataclass(frozen=True)
class Path:
    """A path on the ground, sampled every STEP_M.

    Attributes:
        xy: (K, 2) world positions in metres.
        yaw: (K,) headings in radians, without jumps.
        speed_limit: (K,) m/s, limited by the bends ahead.
        stops_m: (S,) metres along the path to each stop line.
        signals: (S, 3) column and row of the crossing after each stop line, and the axis along which the path enters it.
    """

    xy: Float64
    yaw: Float64
    speed_limit: Float64
    stops_m: Float64
    signals: Int64


@dataclass(frozen=True)
class Start:
    """The start of a path.

    Attributes:
        column: column of the first crossing.
        row: row of the first crossing.
        direction: 0 to 3 for +u, +v, -u, -v.
        back_m: distance from the start to the crossing.
    """

    column: int
    row: int
    direction: int
    back_m: float


def make_path(town: TownMap, start: Start, length_m: float, rng: np.random.Generator) -> Path:
    """Draw a path of at least `length_m`; turns towards the middle of the town are more likely.

    With equal random numbers, a longer path begins with the shorter path.
    """
    column, row, direction = start.column, start.row, start.direction
    turn = _draw_turn(town, column, row, direction, rng)
    lane = _lane_for(town, column, row, direction, turn)
    parts = [_lane_point(town, column, row, direction, lane, -start.back_m)[None]]
    stops: list[tuple[int, tuple[int, int, int]]] = []
    travelled = 0.0
    while travelled < length_m + 40.0:
        next_direction = (direction + turn) % 4
        next_column, next_row = column + _DIRECTIONS[next_direction][0], row + _DIRECTIONS[next_direction][1]
        next_turn = _draw_turn(town, next_column, next_row, next_direction, rng)
        next_lane = _lane_for(town, next_column, next_row, next_direction, next_turn)
        through = _through_crossing(town, (column, row), (direction, lane), (next_direction, next_lane))
        stops.append((sum(map(len, parts)), (column, row, direction % 2)))
        travelled += float(np.linalg.norm(through[0] - parts[-1][-1]) + np.linalg.norm(through[-1] - through[0]))
        parts.append(through)
        column, row, direction, lane, turn = next_column, next_row, next_direction, next_lane, next_turn
    return _sample(town, np.concatenate(parts), stops)


def _draw_turn(town: TownMap, column: int, row: int, direction: int, rng: np.random.Generator) -> int:
    """Draw a turn: 0 straight on, 1 or 3 to the sides; only onto streets that lead to another crossing."""
    options, weights = [], []
    middle = np.array(town.centre)
    for turn, weight in ((0, 2.0), (1, 1.0), (3, 1.0)):
        du, dv = _DIRECTIONS[(direction + turn) % 4]
        there = np.array([column + du, row + dv])
        if 0 <= there[0] < len(town.along_v) and 0 <= there[1] < len(town.along_u):
            options.append(turn)
            weights.append(weight * 0.4 ** float(np.abs(there - middle).sum()))
    return int(rng.choice(options, p=np.array(weights) / sum(weights)))


def _street(town: TownMap, column: int, row: int, direction: int) -> Street:
    """Return the street through a crossing along a direction."""
    return town.along_u[row] if direction % 2 == 0 else town.along_v[column]


def _lane_for(town: TownMap, column: int, row: int, direction: int, turn: int) -> int:
    """Return the lane for a turn; lane 0 is next to the centre line.

    It is the outermost lane for a turn to the near side, lane 0 for a turn to the far side, and any lane for straight on.
    """
    lanes = _street(town, column, row, direction).lanes
    near_turn = 1 if town.drive_side > 0 else 3
    if turn == near_turn:
        return lanes - 1
    return 0 if turn else (column + row + direction) % lanes


def _lane_point(town: TownMap, column: int, row: int, direction: int, lane: int, ahead_m: float) -> Float64:
    """Return the map position (2,) in a lane, `ahead_m` after the middle of the crossing, or before it if negative."""
    street = _street(town, column, row, direction)
    forward = np.array(_DIRECTIONS[direction], dtype=np.float64)
    right = np.array([-forward[1], forward[0]])
    side = town.drive_side * (lane + 0.5) * street.lane_m
    point: Float64 = town.crossing_uv(column, row) + ahead_m * forward + side * right
    return point


def _through_crossing(town: TownMap, crossing: tuple[int, int], come: tuple[int, int], go: tuple[int, int]) -> Float64:
    """Return map positions (n, 2) from the stop line through the crossing to the beginning of the next lane.

    Args:
        town: map of the town.
        crossing: column and row.
        come: direction and lane before the crossing.
        go: direction and lane after the crossing.
    """
    entered, left = _street(town, *crossing, come[0]), _street(town, *crossing, go[0])
    across = left if left is not entered else _street(town, *crossing, come[0] + 1)
    first = _lane_point(town, *crossing, *come, -(across.half_m + STOP_LINE_M))
    if left is entered:
        last = _lane_point(town, *crossing, *go, across.half_m + STOP_LINE_M)
        bend = (first + last) / 2
    else:
        last = _lane_point(town, *crossing, *go, entered.half_m + STOP_LINE_M)
        bend = _lane_point(town, *crossing, *come, 0.0) + _lane_point(town, *crossing, *go, 0.0) - town.crossing_uv(*crossing)
    share = np.linspace(0, 1, 15)[:, None]
    curve: Float64 = (1 - share) ** 2 * first + 2 * share * (1 - share) * bend + share**2 * last
    return curve


def _sample(town: TownMap, uv: Float64, stops: list[tuple[int, tuple[int, int, int]]]) -> Path:
    """Convert map positions (n, 2) to a path in the world with even samples.

    Args:
        town: map of the town.
        uv: (n, 2) map positions.
        stops: index into `uv` of each stop line, and its row of `Path.signals`.
    """
    flat_m = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(uv, axis=0), axis=1))])
    fine_m = np.arange(0.0, flat_m[-1], STEP_M)
    fine_uv = np.stack([np.interp(fine_m, flat_m, uv[:, axis]) for axis in (0, 1)], axis=1)
    world = town.warp.world_xy(fine_uv)
    along_m = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(world, axis=0), axis=1))])
    even_m = np.arange(0.0, along_m[-1], STEP_M)
    xy = np.stack([np.interp(even_m, along_m, world[:, axis]) for axis in (0, 1)], axis=1)
    tangent = _smooth(np.gradient(xy, axis=0))
    yaw = np.unwrap(np.arctan2(tangent[:, 1], tangent[:, 0]))
    stops_m = np.interp([flat_m[index] for index, _ in stops], fine_m, along_m)
    signals = np.array([signal for _, signal in stops], np.int64)
    return Path(xy, yaw, _bend_limit(yaw), stops_m, signals)


def _smooth(values: Float64) -> Float64:
    """Return the moving mean of values (K, d) over about 2 m, so that headings have no kinks."""
    window = 9
    padded = np.concatenate([np.repeat(values[:1], window // 2, 0), values, np.repeat(values[-1:], window // 2, 0)])
    kernel = np.ones(window) / window
    return np.stack([np.convolve(padded[:, axis], kernel, "valid") for axis in range(values.shape[1])], axis=1)


def _bend_limit(yaw: Float64) -> Float64:
    """Return the speed (K,) that keeps lateral acceleration below 2 m/s2 here and, when braking at 2 m/s2, in all bends ahead."""
    curvature = np.abs(np.gradient(yaw)) / STEP_M
    squared = np.minimum(2.0 / np.maximum(curvature, 1e-4), 400.0)
    ahead = 4.0 * STEP_M * np.arange(len(yaw))
    limit: Float64 = np.sqrt(np.minimum.accumulate((squared + ahead)[::-1])[::-1] - ahead)
    return limit
