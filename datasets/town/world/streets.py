"""The town's map: a grid of straight streets in map coordinates, and the smooth mapping to bent streets on hilly ground.

Map coordinates (u, v) are metres; streets run along u or along v. The mapping to the world bends the streets, turns the whole town
and lifts it onto the ground. As in CARLA, y is to the right of x, so the right-hand side of a direction (du, dv) is (-dv, du).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from heal.datasets.town.presets import TownPreset
from heal.types import Float64

SIDEWALK_M = 3.2  # width
KERB_M = 0.13  # height


@dataclass(frozen=True)
class Ground:
    """Height of the ground as a sum of K long waves.

    Attributes:
        amplitude_m: (K,) metres.
        waves: (K, 2) wave vectors in radians per metre.
        phase: (K,) radians.
    """

    amplitude_m: Float64
    waves: Float64
    phase: Float64

    def height(self, xy: Float64) -> Float64:
        """Return the height in metres at world positions (..., 2)."""
        height: Float64 = (np.sin(xy @ self.waves.T + self.phase) * self.amplitude_m).sum(axis=-1)
        return height

    def normal(self, xy: Float64) -> Float64:
        """Return the upward unit normals (..., 3) at world positions (..., 2)."""
        slope = (np.cos(xy @ self.waves.T + self.phase) * self.amplitude_m) @ self.waves
        normal = np.concatenate([-slope, np.ones((*slope.shape[:-1], 1))], axis=-1)
        unit: Float64 = normal / np.linalg.norm(normal, axis=-1, keepdims=True)
        return unit


@dataclass(frozen=True)
class Warp:
    """The mapping from map to world positions: the streets are bent as sines, then the whole town is turned.

    Attributes:
        sway_m: (2,) amplitude of the bends in u and in v.
        waves: (2,) frequency of the bends in radians per metre.
        phase: (2,) radians.
        turn: angle in radians from the map's u to the world's x.
    """

    sway_m: Float64
    waves: Float64
    phase: Float64
    turn: float

    def world_xy(self, uv: Float64) -> Float64:
        """Return the world positions (..., 2) of map positions (..., 2)."""
        swayed = uv + self.sway_m * np.sin(uv[..., ::-1] * self.waves + self.phase)
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        world: Float64 = swayed @ np.array([[cos, sin], [-sin, cos]])
        return world

    def heading(self, uv: Float64, direction: Float64) -> Float64:
        """Return the world yaw in radians of map directions (..., 2) at map positions (..., 2)."""
        step = 0.05 * direction
        ahead = self.world_xy(uv + step) - self.world_xy(uv - step)
        yaw: Float64 = np.arctan2(ahead[..., 1], ahead[..., 0])
        return yaw


@dataclass(frozen=True)
class Street:
    """A straight street across the whole map.

    Attributes:
        axis: 0 for a street along u, 1 for a street along v.
        offset_m: the centre line's coordinate on the other axis.
        lanes: number of lanes per direction.
        lane_m: width of a lane.
        parking_m: width of the strip for parked vehicles on either side; 0 for none.
        end_m: coordinate along the street at which it ends; inf for the end of the map.
    """

    axis: Literal[0, 1]
    offset_m: float
    lanes: int
    lane_m: float
    parking_m: float
    end_m: float = np.inf

    @property
    def drive_m(self) -> float:
        """Half the width of all driving lanes."""
        return self.lanes * self.lane_m

    @property
    def half_m(self) -> float:
        """Half the width from kerb to kerb."""
        return self.drive_m + self.parking_m

    def uv(self, along: Float64 | float, lateral: Float64 | float) -> Float64:
        """Return the map positions (..., 2) at coordinate `along` the street and `lateral` metres from its centre line."""
        pair = (along, np.add(self.offset_m, lateral))
        return np.stack(np.broadcast_arrays(*(pair if self.axis == 0 else pair[::-1])), axis=-1)


@dataclass(frozen=True)
class Ring:
    """A roundabout's ring road around the map's origin, the middle crossing.

    Attributes:
        inner_m: radius of its island.
        outer_m: radius of its outer kerb.
    """

    inner_m: float
    outer_m: float

    @property
    def middle_m(self) -> float:
        """Radius of the path of the vehicles."""
        return (self.inner_m + self.outer_m) / 2


@dataclass(frozen=True)
class TownMap:
    """Streets and ground of one town.

    Attributes:
        along_u: streets that run along u, by increasing v.
        along_v: streets that run along v, by increasing u; none beside a highway.
        warp: mapping from map to world positions.
        ground: height of the ground in the world.
        drive_side: +1 where vehicles keep to the right, -1 to the left.
        reach_m: half the extent of the mapped rectangle in u.
        reach_v_m: half its extent in v.
        ring: the roundabout in the middle; None for a crossing.
    """

    along_u: tuple[Street, ...]
    along_v: tuple[Street, ...]
    warp: Warp
    ground: Ground
    drive_side: int
    reach_m: float
    reach_v_m: float
    ring: Ring | None = None

    def world(self, uv: Float64, above_m: Float64 | float = 0.0) -> Float64:
        """Return the world positions (..., 3) of map positions (..., 2), `above_m` above the ground."""
        xy = self.warp.world_xy(uv)
        return np.concatenate([xy, (self.ground.height(xy) + above_m)[..., None]], axis=-1)

    @property
    def centre(self) -> tuple[int, int]:
        """Column and row of the middle crossing."""
        return len(self.along_v) // 2, len(self.along_u) // 2

    def crossing_uv(self, column: int, row: int) -> Float64:
        """Return the map position (2,) where street `column` along v meets street `row` along u."""
        return np.array([self.along_v[column].offset_m, self.along_u[row].offset_m])

    def is_crossing(self, column: int, row: int) -> bool:
        """Whether street `column` along v meets street `row` along u, and does not end before it."""
        inside = 0 <= column < len(self.along_v) and 0 <= row < len(self.along_u)
        return inside and self.along_u[row].offset_m <= self.along_v[column].end_m

    def has_arm(self, column: int, row: int, direction: int) -> bool:
        """Whether a street leaves a crossing along direction 0 to 3 for +u, +v, -u, -v."""
        street = self.along_u[row] if direction % 2 == 0 else self.along_v[column]
        here = float(self.crossing_uv(column, row)[direction % 2])
        return here < street.end_m if direction < 2 else here <= street.end_m

    def crossing_half_m(self, column: int, row: int, axis: int) -> float:
        """Return the distance along axis 0 or 1 from the middle of a crossing to its edge."""
        if self.ring is not None and (column, row) == self.centre:
            return self.ring.outer_m
        return (self.along_v[column] if axis == 0 else self.along_u[row]).half_m

    def crossings_of(self, street: Street) -> list[tuple[float, float]]:
        """Return the coordinate along a street of each crossing on it, and the distance from there to the crossing's edge."""
        others, own = (self.along_v, self.along_u) if street.axis == 0 else (self.along_u, self.along_v)
        number, found = own.index(street), []
        for other_number, other in enumerate(others):
            column, row = (other_number, number) if street.axis == 0 else (number, other_number)
            if self.is_crossing(column, row):
                found.append((other.offset_m, self.crossing_half_m(column, row, street.axis)))
        return found

    @property
    def ring_m(self) -> float:
        """Radius of the roundabout's outer kerb; 0 in a town without a roundabout."""
        return 0.0 if self.ring is None else self.ring.outer_m

    def near_ring(self, uv: Float64, margin_m: float) -> bool:
        """Whether a map position (2,) is on the roundabout or within `margin_m` of its outer kerb; never in a town without one."""
        return self.ring is not None and bool(np.linalg.norm(uv) < self.ring.outer_m + margin_m)


def make_map(preset: TownPreset, rng: np.random.Generator) -> TownMap:
    """Draw the streets and the ground of a town with crossings."""
    main_lanes = int(rng.integers(preset.lanes[0], preset.lanes[1] + 1))
    along_u = _parallel_streets(preset, 0, main_lanes, rng)
    along_v = _parallel_streets(preset, 1, int(rng.integers(preset.lanes[0], preset.lanes[1] + 1)), rng)
    reach = max(abs(street.offset_m) for street in (*along_u, *along_v)) + preset.block_m[1] * 0.9
    sway = rng.uniform(*preset.bend_m, 2)
    warp = Warp(sway, rng.uniform(0.010, 0.022, 2), rng.uniform(0, 2 * np.pi, 2), float(rng.uniform(0, 2 * np.pi)))
    drive_side = -1 if rng.uniform() < preset.left_hand_share else 1
    ground, ring = make_ground(preset, rng), None
    if preset.layout == "junction":
        middle = along_v[preset.streets // 2]
        along_v = tuple(replace(street, end_m=0.0) if street is middle else street for street in along_v)
    elif preset.layout == "roundabout":
        inner = float(rng.uniform(9.0, 12.0))
        ring = Ring(inner, inner + float(rng.uniform(7.5, 8.5)))
    return TownMap(along_u, along_v, warp, ground, drive_side, float(reach), float(reach), ring)


def _parallel_streets(preset: TownPreset, axis: Literal[0, 1], main_lanes: int, rng: np.random.Generator) -> tuple[Street, ...]:
    lanes = [int(rng.integers(preset.lanes[0], preset.lanes[1] + 1)) for _ in range(preset.streets)]
    lanes[preset.streets // 2] = main_lanes
    widths = [2 * count * 3.4 for count in lanes]
    steps = rng.uniform(*preset.block_m, preset.streets - 1) + np.subtract(widths[1:], 7.0)
    offsets = np.concatenate([[0.0], np.cumsum(steps)])
    offsets -= offsets[preset.streets // 2]
    return tuple(
        Street(axis, float(offset), count, float(rng.uniform(3.2, 3.7)), 2.4 if rng.uniform() < 0.75 else 0.0)
        for offset, count in zip(offsets, lanes, strict=True)
    )


def make_ground(preset: TownPreset, rng: np.random.Generator) -> Ground:
    """Draw three waves of 150 to 400 m; the sum of their largest slopes is a drawn slope.

    On a hillside all waves rise to the same side, and are steepest at the world's origin.
    """
    slope = np.tan(np.radians(rng.uniform(*preset.slope_deg)))
    lengths, angles = rng.uniform(150.0, 400.0, 3), rng.uniform(0, 2 * np.pi, 3)
    waves = (2 * np.pi / lengths)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    shares = rng.dirichlet(np.ones(3))
    phase = rng.uniform(0, 2 * np.pi, 3)
    if preset.hillside:
        waves, phase = waves * np.where(waves @ waves[0] < 0, -1.0, 1.0)[:, None], np.zeros(3)
    return Ground(slope * shares * lengths / (2 * np.pi), waves, phase)
