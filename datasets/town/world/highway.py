"""A highway: one long road without crossings, its barriers and verges, and the vehicles on it.

The road runs along u. A vehicle that reaches its end goes on at its beginning, far beyond the sight of every sensor.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from heal.datasets.town.geometry.materials import Material
from heal.datasets.town.geometry.mesh import Mesh, box, cylinder, merge, up
from heal.datasets.town.presets import TownPreset
from heal.datasets.town.world.blocks import Block, BlockUse
from heal.datasets.town.world.furniture import bush, street_lamp, tree
from heal.datasets.town.world.kinds import MIXES
from heal.datasets.town.world.paths import STEP_M, Path, sample_path
from heal.datasets.town.world.streets import KERB_M, Street, TownMap, Warp, make_ground
from heal.datasets.town.world.traffic import MovingVehicle
from heal.datasets.town.world.vehicles import VehicleSpec, draw_vehicle
from heal.types import Float64

HALF_LENGTH_M, HALF_WIDTH_M = 1200.0, 90.0
EGO_U_M = -400.0  # where the ego starts; it drives towards +u
_SHOULDER_M = 2.6
_TRAFFIC_M = 320.0  # other vehicles start within this distance of the ego
_GAP_M = 14.0  # between two vehicles of a lane at the start
_PIECE_M = 8.0  # of barriers and rails
_ANY_SPEED = 100.0  # m/s: the road is too straight to limit the speed


def make_highway(preset: TownPreset, rng: np.random.Generator) -> TownMap:
    """Draw a highway with a wide bend."""
    lanes = int(rng.integers(preset.lanes[0], preset.lanes[1] + 1))
    road = Street(0, 0.0, lanes, float(rng.uniform(3.5, 3.75)), _SHOULDER_M)
    waves = np.array([0.01, rng.uniform(0.002, 0.004)])
    sway = np.array([0.0, rng.uniform(5.0, 25.0)])
    warp = Warp(sway, waves, rng.uniform(0, 2 * np.pi, 2), float(rng.uniform(0, 2 * np.pi)))
    drive_side = -1 if rng.uniform() < preset.left_hand_share else 1
    return TownMap((road,), (), warp, make_ground(preset, rng), drive_side, HALF_LENGTH_M, HALF_WIDTH_M)


def highway_blocks(town: TownMap) -> tuple[Block, ...]:
    """Make the green verges on both sides of the highway."""
    half = town.along_u[0].half_m
    spans = (-town.reach_v_m, -half), (half, town.reach_v_m)
    return tuple(
        Block(number, BlockUse.PARK, np.array([-town.reach_m, low]), np.array([town.reach_m, high]), pavement_m=0.0)
        for number, (low, high) in enumerate(spans)
    )


@dataclass(frozen=True)
class _Lane:
    """A lane: `way` +1 for the lanes towards +u, -1 for the others; `number` 0 is next to the barrier."""

    way: int
    number: int

    def v(self, town: TownMap) -> float:
        """Return the map coordinate of its middle."""
        return self.way * town.drive_side * (self.number + 0.5) * town.along_u[0].lane_m


def start_on_highway(town: TownMap, preset: TownPreset, length_m: float, rng: np.random.Generator) -> list[MovingVehicle]:
    """Draw the vehicles: the agents first, one in three of them beyond the barrier, then the others around the ego."""
    lanes, mix = town.along_u[0].lanes, MIXES[preset.vehicle_mix]
    road = _Road(town, length_m)
    for number in range(preset.vehicles):
        spec, way = draw_vehicle(rng, mix, agent=True), -1 if number % 3 == 2 else 1
        ahead = 0.0 if number == 0 else float(rng.uniform(*preset.agent_distance_m))
        speed, lane = float(rng.uniform(*preset.agent_speed)), _Lane(way, int(rng.integers(lanes)))
        while not road.start(spec, lane, EGO_U_M + ahead, speed):
            ahead += _GAP_M
    for _ in range(int(rng.integers(preset.moving[0], preset.moving[1] + 1))):
        spec = draw_vehicle(rng, mix)
        for _ in range(10):
            lane = _Lane(int(rng.choice([-1, 1])), int(rng.integers(lanes)) if spec.kind.pace == 1.0 else lanes - 1)
            place = EGO_U_M + float(rng.uniform(-_TRAFFIC_M, _TRAFFIC_M))
            if road.start(spec, lane, place, _speed(preset, spec, lane, lanes, rng)):
                break
    return road.started


class _Road:
    """The vehicles on a highway at the start, each at a distance from the others of its lane."""

    def __init__(self, town: TownMap, length_m: float) -> None:
        """Begin with an empty road; paths are at least `length_m` long."""
        self.started: list[MovingVehicle] = []
        self._town, self._length_m = town, length_m
        self._taken: dict[_Lane, list[tuple[float, float]]] = defaultdict(list)

    def start(self, spec: VehicleSpec, lane: _Lane, place: float, speed: float) -> bool:
        """Put a vehicle at coordinate `place` of a lane; return False if another one is too near."""
        if any(abs(place - other) < _GAP_M + (spec.length_m + length) / 2 for other, length in self._taken[lane]):
            return False
        self._taken[lane].append((place, spec.length_m))
        self.started.append(MovingVehicle(spec, _lane_path(self._town, lane, place, self._length_m), speed))
        return True


def _speed(preset: TownPreset, spec: VehicleSpec, lane: _Lane, lanes: int, rng: np.random.Generator) -> float:
    """Draw a desired speed in m/s: lanes next to the barrier are faster, trucks and buses slower."""
    slow, fast = preset.traffic_speed
    share = 1.0 - lane.number / max(1, lanes - 1)
    return float(spec.kind.pace * (slow + share * (fast - slow)) + rng.uniform(-1.0, 1.0))


def _lane_path(town: TownMap, lane: _Lane, place: float, length_m: float) -> Path:
    """Return the path from coordinate `place` along a lane, again and again over the whole road, for at least `length_m`."""
    along = lane.way * np.arange(-HALF_LENGTH_M + 5.0, HALF_LENGTH_M - 5.0, 2.0)
    uv = np.stack([along, np.full(len(along), lane.v(town))], axis=1)
    whole = sample_path(town, uv, [], np.zeros(len(uv)))
    first = round(abs(place - along[0]) / abs(along[-1] - along[0]) * len(whole.xy))
    samples = (first + np.arange(int((length_m + 40.0) / STEP_M))) % len(whole.xy)
    speeds, zeros = np.full(len(samples), _ANY_SPEED), np.zeros(len(samples))
    return Path(whole.xy[samples], whole.yaw[samples], speeds, whole.stops_m, whole.signals, zeros)


def make_roadside(town: TownMap, preset: TownPreset, rng: np.random.Generator) -> list[Mesh]:
    """Draw the barrier between the directions, guard rails, lamps, gantries with signs, and the plants of the verges."""
    half = town.along_u[0].half_m
    meshes: list[Mesh] = []
    for u in np.arange(-town.reach_m + 10.0, town.reach_m - 10.0, _PIECE_M):
        meshes.append(_along(town, u, 0.0, (0.55, 0.9), 0.45, Material.WALL, (0.5, 0.5, 0.48)))
        for side in (-1, 1):
            rail = _along(town, u, side * (half + 0.6), (0.08, 0.3), 0.6 + KERB_M, Material.METAL, (0.45, 0.46, 0.47))
            foot = town.world(np.array([u, side * (half + 0.6)]), KERB_M)
            meshes += [rail, cylinder(foot - up(0.1), foot + up(0.7), 0.06, Material.METAL, (0.4, 0.4, 0.4), 6)]
    for u in np.arange(-town.reach_m + 30.0, town.reach_m - 30.0, 55.0):
        meshes += [street_lamp(town, np.array([u, side * (half + 1.2)]), np.array([0.0, -side])) for side in (-1.0, 1.0)]
    meshes += [_gantry(town, u, half) for u in np.arange(EGO_U_M - 750.0, town.reach_m - 50.0, 250.0)]
    return meshes + _verges(town, preset, half, rng)


def _along(
    town: TownMap, u: float, v: float, size: tuple[float, float], z: float, material: Material, tint: tuple[float, float, float]
) -> Mesh:
    """Make a piece of a barrier along the road, of a width and a height `size`, with its middle `z` above the road."""
    uv = np.array([u, v])
    yaw = float(town.warp.heading(uv, np.array([1.0, 0.0])))
    return box(town.world(uv, z), (_PIECE_M + 0.05, *size), material, tint, yaw)


def _gantry(town: TownMap, u: float, half: float) -> Mesh:
    """Make a gantry over the road with a sign for either direction."""
    grey = (0.35, 0.36, 0.37)
    feet = [town.world(np.array([u, side * (half + 1.6)])) for side in (-1, 1)]
    tops = [foot + up(6.6) for foot in feet]
    parts = [cylinder(foot - up(0.2), top, 0.18, Material.METAL, grey, 8) for foot, top in zip(feet, tops, strict=True)]
    parts.append(cylinder(tops[0], tops[1], 0.16, Material.METAL, grey, 8))
    yaw = float(town.warp.heading(np.array([u, 0.0]), np.array([1.0, 0.0])))
    for side in (-1, 1):
        middle = town.world(np.array([u, side * 0.5 * half]))
        parts.append(
            box([*middle[:2], (tops[0][2] + tops[1][2]) / 2 + 0.2], (0.15, 4.5, 2.2), Material.SIGN, (0.03, 0.12, 0.45), yaw)
        )
    return merge(parts)


def _verges(town: TownMap, preset: TownPreset, half: float, rng: np.random.Generator) -> list[Mesh]:
    """Draw trees and bushes on the verges, nowhere nearer to the road than five metres."""
    meshes: list[Mesh] = []
    for u in np.arange(-town.reach_m + 10.0, town.reach_m - 10.0, 25.0):
        for side in (-1, 1):
            uvs = [
                np.array([u + rng.uniform(0.0, 25.0), side * (half + 5.0 + rng.uniform(0.0, 1.0) ** 2 * 55.0)]) for _ in range(3)
            ]
            if rng.uniform() < 0.7:
                meshes.append(tree(town.world(uvs[0], KERB_M), preset.tree_scale * rng.uniform(0.8, 1.4), rng))
            meshes += [bush(town.world(uv, KERB_M), rng) for uv in uvs[1:]]
    return meshes


def roadside_place(town: TownMap, rng: np.random.Generator) -> tuple[Float64, float]:
    """Draw the foot (3,) of a roadside unit beside the road ahead of the ego, and its yaw in degrees, back along the road."""
    uv = np.array([EGO_U_M + rng.uniform(45.0, 85.0), town.drive_side * (town.along_u[0].half_m + 1.4)])
    direction = np.array([-1.0, -0.25 * town.drive_side])
    yaw = float(town.warp.heading(uv, direction / np.linalg.norm(direction)))
    return town.world(uv), float(np.degrees(yaw))
