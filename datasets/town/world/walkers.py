"""Paths of pedestrians along the pavements, around the corners of blocks and over the zebra crossings.

A pedestrian keeps the block on one hand. The two hands walk in opposite directions, on strips of the pavement of their own, so that
nobody meets anybody head on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heal.datasets.town.world.blocks import CORNER_M
from heal.datasets.town.world.paths import DIRECTIONS, Path, sample_path
from heal.datasets.town.world.streets import KERB_M, Street, TownMap
from heal.types import Float64

_FROM_KERB_M = {1: 1.55, -1: 2.65}  # of the strip of those who have the block on their right (1) or left (-1) hand
_WAIT_M = 1.3  # from the street to the place where pedestrians wait for a signal
_TURN_BACK_M = 9.0  # before a crossing that leads nowhere
_ARC = np.linspace(0.0, 1.0, 7)


@dataclass(frozen=True)
class Walk:
    """A pedestrian on the way to a crossing.

    Attributes:
        column: column of the crossing.
        row: row of the crossing.
        direction: 0 to 3 for +u, +v, -u, -v.
        hand: 1 with the block on the right, -1 with the block on the left.
    """

    column: int
    row: int
    direction: int
    hand: int

    @property
    def corner(self) -> int:
        """The direction of the pedestrian after the corner of the block."""
        return (self.direction + self.hand) % 4

    def onward(self, direction: int) -> Walk:
        """Return the walk to the next crossing along a direction."""
        du, dv = DIRECTIONS[direction]
        return Walk(self.column + du, self.row + dv, direction, self.hand)

    def back(self) -> Walk:
        """Return the walk back to the crossing before, on the other strip of the same pavement."""
        turned = (self.direction + 2) % 4
        du, dv = DIRECTIONS[turned]
        return Walk(self.column + du, self.row + dv, turned, -self.hand)


def leads_on(town: TownMap, walk: Walk, direction: int) -> bool:
    """Whether a street leads from a walk's crossing along a direction to another crossing."""
    ahead = walk.onward(direction)
    inside = 0 <= ahead.column < len(town.along_v) and 0 <= ahead.row < len(town.along_u)
    return inside and town.has_arm(walk.column, walk.row, direction)


def walker_path(town: TownMap, walk: Walk, back_m: float, length_m: float, rng: np.random.Generator) -> Path:
    """Draw a path of at least `length_m` that begins `back_m` before a crossing.

    With equal random numbers, a longer path begins with the shorter path.
    """
    uv, above, travelled = [_at(town, walk, -back_m)], [KERB_M], 0.0
    stops: list[tuple[int, tuple[int, int, int]]] = []
    while travelled < length_m + 40.0:
        number = len(uv)
        walk, places, heights, stop = _pass_crossing(town, walk, rng)
        if stop is not None:
            stops.append((number, stop))
        uv += list(places)
        above += heights
        travelled += float(np.linalg.norm(np.diff(uv[number - 1 :], axis=0), axis=1).sum())
    return sample_path(town, np.array(uv), stops, np.array(above))


Step = tuple[Walk, Float64, list[float], tuple[int, int, int] | None]


def _pass_crossing(town: TownMap, walk: Walk, rng: np.random.Generator) -> Step:
    """Draw how a pedestrian passes a crossing.

    Returns:
        The walk to the next crossing; map positions (n, 2) and heights above the ground on the way; and, if the first of them is a
        place to wait for a signal, the row of `Path.signals`.
    """
    straight, has_corner = leads_on(town, walk, walk.direction), town.has_arm(walk.column, walk.row, walk.corner)
    if straight and not (has_corner and town.is_crossing(walk.column, walk.row)):
        beyond = _at(town, walk, _half(town, walk))
        return walk.onward(walk.direction), beyond[None], [KERB_M], None
    is_ring = town.ring is not None and (walk.column, walk.row) == town.centre
    around = has_corner and leads_on(town, walk, walk.corner)
    if straight and not is_ring and (not around or rng.uniform() < 0.6):
        return _cross(town, walk)
    if around:
        places = _around_ring(town, walk) if is_ring else _around_corner(town, walk)
        return walk.onward(walk.corner), places, [KERB_M] * len(places), None
    places = np.stack([_at(town, walk, -_half(town, walk) - _TURN_BACK_M), _at(town, walk, -_half(town, walk) - _TURN_BACK_M, -1)])
    return walk.back(), places, [KERB_M] * 2, None


def _cross(town: TownMap, walk: Walk) -> Step:
    """Return the way straight over a street: from the place to wait, down the kerb, over the zebra crossing, and up the kerb."""
    half, inside = _half(town, walk), CORNER_M - _FROM_KERB_M[walk.hand]
    kerb = half + CORNER_M - np.sqrt(CORNER_M**2 - inside**2)  # the kerb recedes at the rounded corner
    ahead = [-half - _WAIT_M, -kerb - 0.25, -kerb + 0.25, kerb - 0.25, kerb + 0.25]
    places = np.stack([_at(town, walk, distance) for distance in ahead])
    signal = walk.column, walk.row, walk.direction % 2
    return walk.onward(walk.direction), places, [KERB_M, KERB_M, 0.0, 0.0, KERB_M], signal


def _around_corner(town: TownMap, walk: Walk) -> Float64:
    """Return map positions (n, 2) around the rounded corner of a block."""
    forward, right = _axes(walk)
    corner = _at(town, walk, -_half(town, walk) - CORNER_M) + walk.hand * (CORNER_M - _FROM_KERB_M[walk.hand]) * right
    angle = (_ARC * np.pi / 2)[:, None]
    radius = CORNER_M - _FROM_KERB_M[walk.hand]
    arc: Float64 = corner + radius * (np.sin(angle) * forward - walk.hand * np.cos(angle) * right)
    return arc


def _around_ring(town: TownMap, walk: Walk) -> Float64:
    """Return map positions (n, 2) around the roundabout, from one street's pavement to the next one's."""
    assert town.ring is not None
    forward, right = _axes(walk)
    radius = town.ring.outer_m + _FROM_KERB_M[walk.hand]
    first, second = (street.half_m + _FROM_KERB_M[walk.hand] for street in _streets(town, walk))
    begin = walk.hand * first * right - np.sqrt(radius**2 - first**2) * forward
    end = walk.hand * np.sqrt(radius**2 - second**2) * right - second * forward
    angles = np.unwrap([np.arctan2(begin[1], begin[0]), np.arctan2(end[1], end[0])])
    turned = angles[0] + _ARC * (angles[1] - angles[0])
    arc: Float64 = radius * np.stack([np.cos(turned), np.sin(turned)], axis=1)
    return arc


def _at(town: TownMap, walk: Walk, ahead_m: float, strip: int = 1) -> Float64:
    """Return the map position (2,) on the pavement `ahead_m` after the middle of a crossing; strip -1: of the other hand."""
    forward, right = _axes(walk)
    lateral = walk.hand * (_streets(town, walk)[0].half_m + _FROM_KERB_M[strip * walk.hand])
    place: Float64 = town.crossing_uv(walk.column, walk.row) + ahead_m * forward + lateral * right
    return place


def _axes(walk: Walk) -> tuple[Float64, Float64]:
    """Return the map directions (2,) forward and to the right."""
    du, dv = DIRECTIONS[walk.direction]
    return np.array([du, dv], np.float64), np.array([-dv, du], np.float64)


def _half(town: TownMap, walk: Walk) -> float:
    """Return the distance from the middle of the crossing to its edge, along the walk."""
    return town.crossing_half_m(walk.column, walk.row, walk.direction % 2)


def _streets(town: TownMap, walk: Walk) -> tuple[Street, Street]:
    """Return the street along which the pedestrian walks, and the street that crosses it."""
    pair = town.along_u[walk.row], town.along_v[walk.column]
    return pair if walk.direction % 2 == 0 else pair[::-1]
