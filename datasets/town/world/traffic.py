"""Place the parked vehicles, and the moving vehicles, cyclists and pedestrians at the starts of their paths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from heal.datasets.town.presets import TownPreset
from heal.datasets.town.world.blocks import Block, BlockUse
from heal.datasets.town.world.footprints import footprint, overlaps
from heal.datasets.town.world.kinds import MIXES, VehicleMix
from heal.datasets.town.world.paths import Path, Start, make_path
from heal.datasets.town.world.streets import KERB_M, SIDEWALK_M, Street, TownMap
from heal.datasets.town.world.vehicles import VehicleSpec, draw_pedestrian, draw_vehicle
from heal.datasets.town.world.walkers import Walk, leads_on, walker_path
from heal.types import Float64

PARKED_WITHIN_M = 125.0  # of the middle of the town
# The random numbers of a path, by the number of the vehicle or pedestrian and the attempt.
PathStream = Callable[[int, int], np.random.Generator]


@dataclass(frozen=True)
class ParkedVehicle:
    """A parked vehicle.

    Attributes:
        spec: kind and sizes.
        xy: (2,) world position of its middle.
        yaw: heading in radians.
        above_m: height above the ground.
    """

    spec: VehicleSpec
    xy: Float64
    yaw: float
    above_m: float


@dataclass(frozen=True)
class MovingVehicle:
    """A moving vehicle, cyclist or pedestrian.

    Attributes:
        spec: kind and sizes.
        path: the path that it follows from the path's start.
        speed: desired speed in m/s.
    """

    spec: VehicleSpec
    path: Path
    speed: float


def park_vehicles(town: TownMap, blocks: tuple[Block, ...], preset: TownPreset, rng: np.random.Generator) -> list[ParkedVehicle]:
    """Draw the parked vehicles at the kerbs and in the car parks."""
    parked: list[ParkedVehicle] = []
    for street in (*town.along_u, *town.along_v):
        if street.parking_m > 0:
            kept_free = [(middle, half + 7.0) for middle, half in town.crossings_of(street)]
            for side in (-1, 1):
                share = float(np.clip(rng.normal(rng.uniform(*preset.parked_share), 0.12), 0, 1))
                parked += _park_along(town, street, side, share, kept_free, MIXES[preset.vehicle_mix], rng)
    for block in blocks:
        if block.use is BlockUse.CAR_PARK:
            parked += _park_in_rows(town, block, float(rng.uniform(0.15, 0.6)), MIXES[preset.vehicle_mix], rng)
    near = [car for car in parked if np.linalg.norm(car.xy) < PARKED_WITHIN_M]
    middle, cut = town.warp.world_xy(np.zeros(2)), town.ring_m + SIDEWALK_M + 3.0
    return near if town.ring is None else [car for car in near if np.linalg.norm(car.xy - middle) > cut]


def _park_along(
    town: TownMap,
    street: Street,
    side: int,
    share: float,
    crossings: list[tuple[float, float]],
    mix: VehicleMix,
    rng: np.random.Generator,
) -> list[ParkedVehicle]:
    """Draw the parked vehicles on one side of a street.

    Args:
        town: map of the town.
        street: the street.
        side: +1 or -1, the sign of the distance from the centre line.
        share: share of the places with a vehicle.
        crossings: centre and half width, along the street, of the stretches without parking.
        mix: the kinds of vehicles.
        rng: the town's numbers for parked vehicles.
    """
    parked = []
    along = -town.reach_m + 5.0
    forward = 1.0 if side == town.drive_side * (1 if street.axis == 0 else -1) else -1.0
    while along < min(town.reach_m - 8.0, street.end_m):
        spec = draw_vehicle(rng, mix, small=True)
        middle = along + spec.length_m / 2
        along += spec.length_m + rng.uniform(0.7, 1.8)
        blocked = any(abs(middle - place) < margin + spec.length_m / 2 for place, margin in crossings)
        if rng.uniform() > share or blocked:
            continue
        lateral = side * (street.half_m - street.parking_m / 2 + rng.uniform(-0.12, 0.12))
        uv = street.uv(middle, lateral)
        direction = np.array([forward, 0.0] if street.axis == 0 else [0.0, forward])
        turned = np.pi * (rng.uniform() < 0.08)
        yaw = float(town.warp.heading(uv, direction) + turned + np.radians(rng.normal(0, 1.0)))
        parked.append(ParkedVehicle(spec, town.warp.world_xy(uv), yaw, 0.0))
    return parked


def _park_in_rows(town: TownMap, block: Block, share: float, mix: VehicleMix, rng: np.random.Generator) -> list[ParkedVehicle]:
    """Draw the vehicles of a car park, in rows across its shorter side; `share` is the share of the places with a vehicle."""
    low, high = block.inner(SIDEWALK_M + 2.5)
    axis = int((high - low)[1] > (high - low)[0])
    parked = []
    for row_number, across in enumerate(np.arange(low[1 - axis] + 2.7, high[1 - axis] - 2.6, 8.2)):
        for along in np.arange(low[axis] + 1.4, high[axis] - 1.3, 2.75):
            spec = draw_vehicle(rng, mix, small=True)
            uv = np.zeros(2)
            uv[axis], uv[1 - axis] = along + rng.uniform(-0.15, 0.15), across + rng.uniform(-0.3, 0.3)
            direction = np.zeros(2)
            direction[1 - axis] = 1.0 if (row_number % 2) == (rng.uniform() < 0.8) else -1.0
            yaw = float(town.warp.heading(uv, direction) + np.radians(rng.normal(0, 1.5)))
            if rng.uniform() < share:
                parked.append(ParkedVehicle(spec, town.warp.world_xy(uv), yaw, KERB_M))
    return parked


def start_agents(
    town: TownMap, preset: TownPreset, length_m: float, rng: np.random.Generator, path_rng: PathStream
) -> list[MovingVehicle]:
    """Draw the agents' vehicles: they approach the middle crossing, up to four of them on different streets."""
    column, row = town.centre
    vehicles: list[MovingVehicle] = []
    first = int(rng.integers(4))
    order = [(first + turn) % 4 for turn in (0, *rng.permutation([1, 3, 2]))]
    order = [direction for direction in order if town.has_arm(column, row, (direction + 2) % 4)]
    for number in range(preset.vehicles):
        spec = draw_vehicle(rng, MIXES[preset.vehicle_mix], agent=True)
        direction = order[number % len(order)]
        across = town.crossing_half_m(column, row, direction % 2)
        drawn = float(rng.uniform(*preset.agent_distance_m))
        back = max(across + 8.5, drawn) + 7.0 * (number // len(order))
        path = make_path(town, Start(column, row, direction, back), length_m, path_rng(number, 0))
        vehicles.append(MovingVehicle(spec, path, float(rng.uniform(*preset.agent_speed))))
    return vehicles


def start_traffic(
    town: TownMap, agents: list[MovingVehicle], preset: TownPreset, length_m: float, rng: np.random.Generator, path_rng: PathStream
) -> list[MovingVehicle]:
    """Draw further moving vehicles and cyclists, more of them near the middle of the town; no two touch at the start.

    Returns:
        The agents' vehicles, then the others.
    """
    started = list(agents)
    nodes, weights = _crossings(town)
    for number in range(int(rng.integers(preset.moving[0], preset.moving[1] + 1))):
        spec, speed = draw_vehicle(rng, MIXES[preset.vehicle_mix]), float(rng.uniform(*preset.traffic_speed))
        speed, at_kerb = speed * spec.kind.pace, not spec.kind.is_vehicle
        for attempt in range(10):
            column, row = nodes[int(rng.choice(len(nodes), p=weights))]
            direction = int(rng.integers(4))
            if not town.has_arm(column, row, (direction + 2) % 4):
                continue
            across = town.crossing_half_m(column, row, direction % 2)
            back = across + 6.0 + spec.length_m / 2 + float(rng.uniform(0.0, preset.block_m[0] - 26.0 - town.ring_m))
            path = make_path(town, Start(column, row, direction, back, at_kerb), length_m, path_rng(100 + number, attempt))
            if not _touches(spec, path, started):
                started.append(MovingVehicle(spec, path, speed))
                break
    return started


def start_walkers(
    town: TownMap, others: list[MovingVehicle], preset: TownPreset, length_m: float, rng: np.random.Generator, path_rng: PathStream
) -> list[MovingVehicle]:
    """Draw pedestrians on the pavements, more of them near the middle of the town; none touches another one at the start.

    Returns:
        The others, then the pedestrians.
    """
    started = list(others)
    nodes, weights = _crossings(town)
    for number in range(int(rng.integers(preset.walkers[0], preset.walkers[1] + 1))):
        spec, speed = draw_pedestrian(rng), float(rng.uniform(0.9, 1.7))
        for attempt in range(10):
            column, row = nodes[int(rng.choice(len(nodes), p=weights))]
            walk = Walk(column, row, int(rng.integers(4)), int(rng.choice([-1, 1])))
            if not leads_on(town, walk, (walk.direction + 2) % 4):
                continue
            back = town.crossing_half_m(column, row, walk.direction % 2) + float(
                rng.uniform(5.0, preset.block_m[0] - 16.0 - town.ring_m)
            )
            path = walker_path(town, walk, back, length_m, path_rng(number, attempt))
            if not _touches(spec, path, started):
                started.append(MovingVehicle(spec, path, speed))
                break
    return started


def _crossings(town: TownMap) -> tuple[list[tuple[int, int]], Float64]:
    """Return the columns and rows of all crossings, and chances (C,) that fall with the distance from the middle of the town."""
    nodes = [(column, row) for column in range(len(town.along_v)) for row in range(len(town.along_u))]
    nodes = [node for node in nodes if town.is_crossing(*node)]
    weights = np.array([np.exp(-np.linalg.norm(town.crossing_uv(*node)) / 70.0) for node in nodes])
    return nodes, weights / weights.sum()


def _touches(spec: VehicleSpec, path: Path, others: list[MovingVehicle]) -> bool:
    """Return whether a vehicle at the start of `path` would be within about a metre of another vehicle."""
    if not others:
        return False
    one = footprint(path.xy[0], path.yaw[0], np.float64(spec.length_m + 2.0), np.float64(spec.width_m + 0.5))
    starts = [(other.path.xy[0], other.path.yaw[0], other.spec) for other in others]
    taken = [footprint(xy, yaw, np.float64(size.length_m), np.float64(size.width_m)) for xy, yaw, size in starts]
    return overlaps(one, np.stack(taken))
