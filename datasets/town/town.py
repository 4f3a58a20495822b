"""A whole town: its map, its standing and moving vehicles, its pedestrians and its agents; and its state at a tick."""

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
from heal.datasets.town.world.blocks import Block, ground_mesh, make_blocks
from heal.datasets.town.world.buildings import make_buildings
from heal.datasets.town.world.driving import WARM_UP_TICKS, Fleet
from heal.datasets.town.world.footprints import footprint
from heal.datasets.town.world.furniture import make_furniture
from heal.datasets.town.world.highway import highway_blocks, make_highway, make_roadside, start_on_highway
from heal.datasets.town.world.paths import STEP_M
from heal.datasets.town.world.planting import make_planting
from heal.datasets.town.world.streets import TownMap, make_map
from heal.datasets.town.world.traffic import MovingVehicle, park_vehicles, start_agents, start_traffic, start_walkers
from heal.datasets.town.world.vehicles import VehicleSpec, vehicle_mesh
from heal.types import Float64

FIRST_ID = 1000  # id of the first vehicle
_TOP_SPEED = 14.0  # m/s, above the speed of every vehicle in a town with crossings


@dataclass(frozen=True)
class TownState:
    """The town at one tick.

    Attributes:
        tick: number of the tick of 0.1 s.
        world_SE3_vehicles: (V, 4, 4) poses of all vehicles, cyclists and pedestrians, parked vehicles included, in the order of
            `Town.specs`.
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
        moving: the moving vehicles and cyclists, the agents' first, then the pedestrians.
        parked: the parked vehicles.
        specs: kinds and sizes of all of them, in this order.
        agents: the sensing vehicles, the ego first, then the roadside units.
        weather: light and haze.
        moving_meshes: meshes of all that moves, in their own frames.
        standing_mesh: all triangles that do not move.
        standing_rays: the standing triangles, prepared for ray casting.
    """

    def __init__(self, preset: TownPreset, split: str, seed: int, ticks: int) -> None:
        """Build everything that does not move, and simulate the traffic for all ticks."""

        def stream(*key: int) -> np.random.Generator:
            return random_stream(split, seed, *key)

        self.preset, self._stream = preset, stream
        self.map, self.blocks = self._make_ground()
        self.parked = park_vehicles(self.map, self.blocks, preset, stream(Stream.PARKED)) if self.map.along_v else []
        self.moving = self._start_moving((ticks + WARM_UP_TICKS) * 0.1 * max(_TOP_SPEED, preset.traffic_speed[1] + 1.0))
        self.specs: list[VehicleSpec] = [vehicle.spec for vehicle in self.moving] + [vehicle.spec for vehicle in self.parked]
        self._parked_poses = [on_ground(self.map, car.xy, car.yaw, car.above_m) for car in self.parked]
        lights = stream(Stream.TRAFFIC, 2).uniform(0, 24, (preset.streets, preset.streets))
        self.motion = Fleet(self.moving, self._parked_footprints(), lights).run(ticks)
        self.agents = self._make_agents(stream(Stream.SENSORS))
        self.weather = draw_weather(stream(Stream.WEATHER), preset.weather)
        standing = self._make_surroundings()
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
        poses = [
            on_ground(self.map, path.xy[step], path.yaw[step], path.above_m[step]) for path, step in zip(paths, steps, strict=True)
        ]
        speed = np.concatenate([self.motion.speed[tick], np.zeros(len(self.parked))])
        return TownState(tick, np.stack([*poses, *self._parked_poses]), speed, self)

    def _make_ground(self) -> tuple[TownMap, tuple[Block, ...]]:
        """Draw the map, and the blocks between the streets or beside the highway."""
        rng = self._stream(Stream.LAYOUT)
        if self.preset.layout == "highway":
            town = make_highway(self.preset, rng)
            return town, highway_blocks(town)
        town = make_map(self.preset, rng)
        return town, make_blocks(town, self.preset, self._stream(Stream.LAYOUT, 1))

    def _start_moving(self, length_m: float) -> list[MovingVehicle]:
        """Draw all that moves, with paths of at least `length_m`."""
        town, preset, stream = self.map, self.preset, self._stream
        if preset.layout == "highway":
            return start_on_highway(town, preset, length_m, stream(Stream.TRAFFIC))

        def path_rng(number: int, attempt: int) -> np.random.Generator:
            return stream(Stream.PATH, number, attempt)

        agents = start_agents(town, preset, length_m, stream(Stream.TRAFFIC), path_rng)
        vehicles = start_traffic(town, agents, preset, length_m, stream(Stream.TRAFFIC, 1), path_rng)
        if preset.walkers[1] == 0:
            return vehicles
        walkers = stream(Stream.TRAFFIC, 3)
        return start_walkers(town, vehicles, preset, length_m, walkers, lambda n, k: stream(Stream.WALKERS, n, k))

    def _make_surroundings(self) -> list[Mesh]:
        """Make the ground and all that stands on it, but vehicles and roadside units."""
        town, preset = self.map, self.preset
        ground, furniture = ground_mesh(town, self.blocks), self._stream(Stream.FURNITURE)
        if preset.layout == "highway":
            return [ground, *make_roadside(town, preset, furniture)]
        buildings = make_buildings(town, self.blocks, self._stream(Stream.LAYOUT, 2))
        things = make_furniture(town, self.blocks, preset, furniture)
        return [ground, *buildings, *things, *make_planting(town, self.blocks, preset, furniture)]

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
