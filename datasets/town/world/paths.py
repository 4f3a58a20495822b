"""Paths of vehicles and cyclists along the lanes of the streets, with turns at the crossings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heal.datasets.town.world.streets import Ring, Street, TownMap
from heal.types import Float64, Int64

STEP_M = 0.25  # between the samples of a path
STOP_LINE_M = 4.6  # before the crossing street
_KERB_SHARE = 0.28  # of a lane's width, from its middle to the way of cyclists
DIRECTIONS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # (du, dv) of directions 0 to 3


@dataclass(frozen=True)
class Path:
    """A path on the ground, sampled every STEP_M.

    Attributes:
        xy: (K, 2) world positions in metres.
        yaw: (K,) headings in radians, without jumps.
        speed_limit: (K,) m/s, limited by the bends ahead.
        stops_m: (S,) metres along the path to each stop line.
        signals: (S, 3) column and row of the crossing after each stop line, and the axis along which the path enters it.
        above_m: (K,) height above the road.
    """

    xy: Float64
    yaw: Float64
    speed_limit: Float64
    stops_m: Float64
    signals: Int64
    above_m: Float64


@dataclass(frozen=True)
class Start:
    """The start of a path.

    Attributes:
        column: column of the first crossing.
        row: row of the first crossing.
        direction: 0 to 3 for +u, +v, -u, -v.
        back_m: distance from the start to the crossing.
        at_kerb: whether the path keeps to the kerb, as cyclists do.
    """

    column: int
    row: int
    direction: int
    back_m: float
    at_kerb: bool = False


def make_path(town: TownMap, start: Start, length_m: float, rng: np.random.Generator) -> Path:
    """Draw a path of at least `length_m`; turns towards the middle of the town are more likely.

    With equal random numbers, a longer path begins with the shorter path.
    """
    column, row, direction = start.column, start.row, start.direction
    turn = _draw_turn(town, column, row, direction, rng)
    lane = _lane_for(town, column, row, direction, turn, start.at_kerb)
    parts = [_lane_point(town, column, row, direction, lane, -start.back_m)[None]]
    stops: list[tuple[int, tuple[int, int, int]]] = []
    travelled = 0.0
    while travelled < length_m + 40.0:
        next_direction = (direction + turn) % 4
        next_column, next_row = column + DIRECTIONS[next_direction][0], row + DIRECTIONS[next_direction][1]
        next_turn = _draw_turn(town, next_column, next_row, next_direction, rng)
        next_lane = _lane_for(town, next_column, next_row, next_direction, next_turn, start.at_kerb)
        through = _through_crossing(town, (column, row), (direction, lane), (next_direction, next_lane))
        if town.is_crossing(column, row):
            stops.append((sum(map(len, parts)), (column, row, direction % 2)))
        travelled += float(np.linalg.norm(through[0] - parts[-1][-1]) + np.linalg.norm(through[-1] - through[0]))
        parts.append(through)
        column, row, direction, lane, turn = next_column, next_row, next_direction, next_lane, next_turn
    uv = np.concatenate(parts)
    return sample_path(town, uv, stops, np.zeros(len(uv)))


def _draw_turn(town: TownMap, column: int, row: int, direction: int, rng: np.random.Generator) -> int:
    """Draw a turn: 0 straight on, 1 or 3 to the sides; only onto streets that lead to another crossing."""
    options, weights = [], []
    middle = np.array(town.centre)
    for turn, weight in ((0, 2.0), (1, 1.0), (3, 1.0)):
        du, dv = DIRECTIONS[(direction + turn) % 4]
        there = np.array([column + du, row + dv])
        is_street = town.has_arm(column, row, (direction + turn) % 4)
        if is_street and 0 <= there[0] < len(town.along_v) and 0 <= there[1] < len(town.along_u):
            options.append(turn)
            weights.append(weight * 0.4 ** float(np.abs(there - middle).sum()))
    return int(rng.choice(options, p=np.array(weights) / sum(weights)))


def _street(town: TownMap, column: int, row: int, direction: int) -> Street:
    """Return the street through a crossing along a direction."""
    return town.along_u[row] if direction % 2 == 0 else town.along_v[column]


def _lane_for(town: TownMap, column: int, row: int, direction: int, turn: int, at_kerb: bool) -> float:
    """Return the lane for a turn; lane 0 is next to the centre line.

    It is the outermost lane for a turn to the near side, lane 0 for a turn to the far side, and any lane for straight on. At the
    kerb it is the outer part of the outermost lane.
    """
    lanes = _street(town, column, row, direction).lanes
    if at_kerb:
        return lanes - 1 + _KERB_SHARE
    near_turn = 1 if town.drive_side > 0 else 3
    if turn == near_turn:
        return lanes - 1
    return 0 if turn else (column + row + direction) % lanes


def _lane_point(town: TownMap, column: int, row: int, direction: int, lane: float, ahead_m: float) -> Float64:
    """Return the map position (2,) in a lane, `ahead_m` after the middle of the crossing, or before it if negative."""
    street = _street(town, column, row, direction)
    forward = np.array(DIRECTIONS[direction], dtype=np.float64)
    right = np.array([-forward[1], forward[0]])
    side = town.drive_side * (lane + 0.5) * street.lane_m
    point: Float64 = town.crossing_uv(column, row) + ahead_m * forward + side * right
    return point


def _through_crossing(town: TownMap, crossing: tuple[int, int], come: tuple[int, float], go: tuple[int, float]) -> Float64:
    """Return map positions (n, 2) from the stop line through the crossing to the beginning of the next lane.

    Args:
        town: map of the town.
        crossing: column and row.
        come: direction and lane before the crossing.
        go: direction and lane after the crossing.
    """
    first = _lane_point(town, *crossing, *come, -(town.crossing_half_m(*crossing, come[0] % 2) + STOP_LINE_M))
    last = _lane_point(town, *crossing, *go, town.crossing_half_m(*crossing, go[0] % 2) + STOP_LINE_M)
    if town.ring is not None and crossing == town.centre:
        return _around_ring(town.ring, town.drive_side, (first, come[0]), (last, go[0]))
    if come[0] == go[0]:
        bend = (first + last) / 2
    else:
        bend = _lane_point(town, *crossing, *come, 0.0) + _lane_point(town, *crossing, *go, 0.0) - town.crossing_uv(*crossing)
    share = np.linspace(0, 1, 15)[:, None]
    curve: Float64 = (1 - share) ** 2 * first + 2 * share * (1 - share) * bend + share**2 * last
    return curve


def _around_ring(ring: Ring, drive_side: int, come: tuple[Float64, int], go: tuple[Float64, int]) -> Float64:
    """Return map positions (n, 2) from a stop line around a roundabout to the beginning of the next lane.

    Args:
        ring: the ring road.
        drive_side: +1 where vehicles keep to the right, -1 to the left.
        come: map position (2,) of the stop line, and the direction there.
        go: map position (2,) of the beginning of the next lane, and the direction there.
    """
    # The island lies on the side away from the kerb, and y is to the right of x: where vehicles keep to the right, angles fall.
    turning, merge = -drive_side, np.radians(32.0)
    into, out = np.array(DIRECTIONS[come[1]], np.float64), np.array(DIRECTIONS[go[1]], np.float64)
    begin = np.arctan2(-into[1], -into[0]) + turning * merge
    sweep = (turning * (np.arctan2(out[1], out[0]) - turning * merge - begin)) % (2 * np.pi)
    angles = begin + turning * np.linspace(0.0, sweep, max(3, int(sweep * 6.0)))
    arc = ring.middle_m * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    tangent = turning * np.stack([-np.sin(angles), np.cos(angles)], axis=1)
    return np.concatenate([_curve(come[0], into, arc[0], tangent[0])[:-1], arc, _curve(arc[-1], tangent[-1], go[0], out)[1:]])


def _curve(start: Float64, start_way: Float64, end: Float64, end_way: Float64) -> Float64:
    """Return map positions (n, 2) on a curve between two positions (2,) that it leaves and reaches along unit vectors (2,)."""
    t = np.linspace(0.0, 1.0, 12)[:, None]
    pull = float(np.linalg.norm(end - start)) / 3.0
    first, second = start + pull * start_way, end - pull * end_way
    curve: Float64 = (1 - t) ** 3 * start + 3 * t * (1 - t) ** 2 * first + 3 * t**2 * (1 - t) * second + t**3 * end
    return curve


def sample_path(town: TownMap, uv: Float64, stops: list[tuple[int, tuple[int, int, int]]], above_m: Float64) -> Path:
    """Convert map positions (n, 2) to a path in the world with even samples.

    Args:
        town: map of the town.
        uv: (n, 2) map positions.
        stops: index into `uv` of each stop line, and its row of `Path.signals`.
        above_m: (n,) heights above the road.
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
    above = np.interp(even_m, along_m, np.interp(fine_m, flat_m, above_m))
    return Path(xy, yaw, _bend_limit(yaw), stops_m, signals, above)


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
