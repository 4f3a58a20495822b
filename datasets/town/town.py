"""A whole town: its map, its standing and moving vehicles and its agents; and its state at a tick."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from heal.datasets.town.agents import TownAgent, roadside_agent, vehicle_agent
from heal.datasets.town.geometry.mesh import Mesh, merge
from heal.datasets.town.geometry.raycast import RayMesh, RayScene
from heal.datasets.town.presets import TownPreset
from heal.datasets.town.seeds import Stream, random_stream
from heal.datasets.town.sensors.weather import draw_weather
from heal.datasets.town.world.blocks import ground_mesh, make_blocks
from heal.datasets.town.world.buildings import make_buildings
from heal.datasets.town.world.driving import WARM_UP_TICKS, Fleet
from heal.datasets.town.world.footprints import footprint
from heal.datasets.town.world.furniture import make_furniture
from heal.datasets.town.world.paths import STEP_M
from heal.datasets.town.world.planting import make_planting
from heal.datasets.town.world.streets import TownMap, make_map
from heal.datasets.town.world.traffic import park_vehicles, start_agents, start_traffic
from heal.datasets.town.world.vehicles import VehicleSpec, vehicle_mesh
from heal.types import Float64

FIRST_ID = 1000  # id of the first vehicle
_TOP_SPEED = 14.0  # m/s, above the speed of every vehicle


@dataclass(frozen=True)
class TownState:
    """The town at one tick.

    Attributes:
        tick: number of the tick of 0.1 s.
        world_SE3_vehicles: (V, 4, 4) poses of all vehicles, parked vehicles included, in the order of `Town.specs`.
        speed: (V,) m/s.
        town: the town.
    """

    tick: int
    world_SE3_vehicles: Float64
    speed: Float64
    town: Town

    @cached_property
    def mesh(self) -> Mesh:
        """All triangles, the standing ones first; merged on first use, because an outline needs no triangles."""
        return merge([self.town.standing_mesh, self._moving_mesh])

    @cached_property
    def scene(self) -> RayScene:
        """The triangles of `mesh`, prepared for ray casting."""
        return RayScene(self.town.standing_rays, RayMesh(self._moving_mesh), len(self.town.standing_mesh.triangles))

    @cached_property
    def _moving_mesh(self) -> Mesh:
        return merge([mesh.moved(pose) for mesh, pose in zip(self.town.moving_meshes, self.world_SE3_vehicles, strict=False)])


class Town:
    """The town of one preset, split and seed. Vehicle number n has the id FIRST_ID + n; the first vehicles are the agents.

    Args:
        preset: settings of the town.
        split: "train", "validate" or "test"; towns of different splits are different.
        seed: number of the town within the split.
        ticks: number of ticks for which the traffic is simulated; the state at a tick does not depend on it.

    Attributes:
        map: streets and ground.
        blocks: the blocks between the streets.
        specs: kinds and sizes of all vehicles, moving vehicles first.
        agents: the sensing vehicles, the ego first, then the roadside units.
        weather: light and haze.
        moving_meshes: meshes of the moving vehicles in their own frames.
        standing_mesh: all triangles that do not move.
        standing_rays: the standing triangles, prepared for ray casting.
    """

    def __init__(self, preset: TownPreset, split: str, seed: int, ticks: int) -> None:
        """Build everything that does not move, and simulate the traffic for all ticks."""

        def stream(*key: int) -> np.random.Generator:
            return random_stream(split, seed, *key)

        self.preset = preset
        self.map = make_map(preset, stream(Stream.LAYOUT))
        self.blocks = make_blocks(self.map, preset, stream(Stream.LAYOUT, 1))
        self.parked = park_vehicles(self.map, self.blocks, preset, stream(Stream.PARKED))
        length_m = (ticks + WARM_UP_TICKS) * 0.1 * _TOP_SPEED
        agents = start_agents(self.map, preset, length_m, stream(Stream.TRAFFIC), lambda n, k: stream(Stream.PATH, n, k))
        self.moving = start_traffic(
            self.map, agents, preset, length_m, stream(Stream.TRAFFIC, 1), lambda n, k: stream(Stream.PATH, n, k)
        )
        self.specs: list[VehicleSpec] = [vehicle.spec for vehicle in self.moving] + [vehicle.spec for vehicle in self.parked]
        self._parked_poses = [on_ground(self.map, car.xy, car.yaw, car.above_m) for car in self.parked]
        lights = stream(Stream.TRAFFIC, 2).uniform(0, 24, (preset.streets, preset.streets))
        self.motion = Fleet(self.moving, self._parked_footprints(), lights).run(ticks)
        self.agents = self._make_agents(stream(Stream.SENSORS))
        self.weather = draw_weather(stream(Stream.WEATHER))
        standing = [ground_mesh(self.map, self.blocks), *make_buildings(self.map, self.blocks, stream(Stream.LAYOUT, 2))]
        furniture = stream(Stream.FURNITURE)
        standing += make_furniture(self.map, self.blocks, preset, furniture)
        standing += make_planting(self.map, self.blocks, preset, furniture)
        standing += [agent.pole for agent in self.agents if agent.pole is not None]
        meshes = [vehicle_mesh(spec).owned_by(FIRST_ID + number) for number, spec in enumerate(self.specs)]
        self.moving_meshes, parked_meshes = meshes[: len(self.moving)], meshes[len(self.moving) :]
        standing += [mesh.moved(pose) for mesh, pose in zip(parked_meshes, self._parked_poses, strict=True)]
        self.standing_mesh = merge(standing)
        self.standing_rays = RayMesh(self.standing_mesh)

    def state(self, tick: int) -> TownState:
        """Return the state at `tick`; IndexError beyond the simulated ticks."""
        if not 0 <= tick < len(self.motion.along_m):
            raise IndexError(f"tick {tick}: the town's traffic was simulated for {len(self.motion.along_m)} ticks")
        steps = (self.motion.along_m[tick] / STEP_M).astype(np.int64)
        paths = [vehicle.path for vehicle in self.moving]
        poses = [on_ground(self.map, path.xy[step], path.yaw[step], 0.0) for path, step in zip(paths, steps, strict=True)]
        speed = np.concatenate([self.motion.speed[tick], np.zeros(len(self.parked))])
        return TownState(tick, np.stack([*poses, *self._parked_poses]), speed, self)

    def _parked_footprints(self) -> Float64:
        """Return the footprints (P, 4, 2) of the parked vehicles."""
        sizes = np.array([car.spec.size_m for car in self.parked]).reshape(-1, 3)
        middles = np.array([car.xy for car in self.parked]).reshape(-1, 2)
        return footprint(middles, np.array([car.yaw for car in self.parked]), sizes[:, 0], sizes[:, 1])

    def _make_agents(self, rng: np.random.Generator) -> tuple[TownAgent, ...]:
        """Draw the sensors of the vehicles, the ego first, and then of the roadside units."""
        ego_xy = self.moving[0].path.xy[0]
        vehicles = [
            vehicle_agent(number, str(FIRST_ID + number), self.specs[number], self.preset, rng)
            for number in range(self.preset.vehicles)
        ]
        units = [roadside_agent(str(-1 - number), self.map, ego_xy, self.preset, rng) for number in range(self.preset.roadside)]
        return (*vehicles, *units)


def on_ground(town: TownMap, xy: Float64, yaw: float, above_m: float) -> Float64:
    """Return the pose (4, 4) of a vehicle on the ground: its x axis along `yaw`, its z axis along the ground's normal.

    Args:
        town: map of the town.
        xy: (2,) world position.
        yaw: heading in radians.
        above_m: height of the vehicle's frame above the ground.
    """
    up = town.ground.normal(xy)
    forward = np.array([np.cos(yaw), np.sin(yaw), 0.0])
    forward -= (forward @ up) * up
    forward /= np.linalg.norm(forward)
    pose = np.eye(4)
    (a, b, c), (d, e, f) = up, forward
    # The cross product is written out: numpy.cross takes twenty times as long for two single vectors.
    pose[:3, 0], pose[:3, 1], pose[:3, 2] = forward, (b * f - c * e, c * d - a * f, a * e - b * d), up
    pose[:3, 3] = [xy[0], xy[1], town.ground.height(xy) + above_m]
    return pose
