"""The whole town of one seed: what stands, who drives, who senses; and its state at a tick."""

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
from heal.datasets.town.world.streets import TownMap, make_map
from heal.datasets.town.world.traffic import park_vehicles, start_agents, start_traffic
from heal.datasets.town.world.vehicles import VehicleSpec, vehicle_mesh
from heal.types import Float64

FIRST_ID = 1000
_TOP_SPEED = 14.0


@dataclass(frozen=True)
class TownState:
    """The town at one tick.

    Attributes:
        tick: of 0.1 s.
        world_SE3_vehicles: (V, 4, 4) poses of all vehicles, parked ones included, in the order of `Town.specs`.
        speed: (V,) m/s.
        town: whose state it is.
    """

    tick: int
    world_SE3_vehicles: Float64
    speed: Float64
    town: Town

    @cached_property
    def mesh(self) -> Mesh:
        """All triangles, those that stand first; made when something is sensed: who only asks where agents are needs none."""
        return merge([self.town.standing, self._moving])

    @cached_property
    def scene(self) -> RayScene:
        """The same, prepared for rays."""
        return RayScene(self.town.standing_rays, RayMesh(self._moving), len(self.town.standing.triangles))

    @cached_property
    def _moving(self) -> Mesh:
        return merge([mesh.moved(pose) for mesh, pose in zip(self.town.moving, self.world_SE3_vehicles, strict=False)])


class Town:
    """The town of one preset, split and seed. Vehicle number n has the id FIRST_ID + n; the first ones are the agents.

    Args:
        preset: what kind of town.
        split: "train", "validate" or "test"; towns of different splits are different.
        seed: which of them.
        ticks: how long its traffic is needed; what happens at a tick does not depend on it.
    """

    def __init__(self, preset: TownPreset, split: str, seed: int, ticks: int) -> None:
        """Build everything that does not change, and drive the traffic for all ticks."""

        def stream(*keys: int) -> np.random.Generator:
            return random_stream(split, seed, *keys)

        self.preset = preset
        self.map = make_map(preset, stream(Stream.LAYOUT))
        self.blocks = make_blocks(self.map, preset, stream(Stream.LAYOUT, 1))
        self.parked = park_vehicles(self.map, self.blocks, preset, stream(Stream.PARKED))
        length_m = (ticks + WARM_UP_TICKS) * 0.1 * _TOP_SPEED
        agents = start_agents(self.map, preset, length_m, stream(Stream.TRAFFIC), lambda n, k: stream(Stream.PATH, n, k))
        self.drives = start_traffic(
            self.map, agents, preset, length_m, stream(Stream.TRAFFIC, 1), lambda n, k: stream(Stream.PATH, n, k)
        )
        self.specs: list[VehicleSpec] = [drive.spec for drive in self.drives] + [car.spec for car in self.parked]
        self._parked_poses = [on_ground(self.map, car.xy, car.yaw, car.above_m) for car in self.parked]
        lights = stream(Stream.TRAFFIC, 2).uniform(0, 24, (preset.streets, preset.streets))
        self.motion = Fleet(self.drives, self._parked_footprints(), lights).run(ticks)
        self.agents = self._make_agents(stream(Stream.SENSORS))
        self.weather = draw_weather(stream(Stream.WEATHER))
        standing = [ground_mesh(self.map, self.blocks), *make_buildings(self.map, self.blocks, stream(Stream.LAYOUT, 2))]
        standing += make_furniture(self.map, self.blocks, preset, stream(Stream.FURNITURE))
        standing += [agent.pole for agent in self.agents if agent.pole is not None]
        first_parked = len(self.drives)
        meshes = [vehicle_mesh(spec).owned_by(FIRST_ID + number) for number, spec in enumerate(self.specs)]
        standing += [mesh.moved(pose) for mesh, pose in zip(meshes[first_parked:], self._parked_poses, strict=True)]
        self.moving = meshes[:first_parked]
        self.standing = merge(standing)
        self.standing_rays = RayMesh(self.standing)

    def state(self, tick: int) -> TownState:
        """Where everybody is at `tick`; IndexError beyond the ticks that were driven."""
        if not 0 <= tick < len(self.motion.along_m):
            raise IndexError(f"tick {tick}: the town's traffic was driven for {len(self.motion.along_m)} ticks")
        index = (self.motion.along_m[tick] / STEP_M).astype(np.int64)
        poses = [
            on_ground(self.map, drive.path.xy[at], drive.path.yaw[at], 0.0) for drive, at in zip(self.drives, index, strict=True)
        ]
        speed = np.concatenate([self.motion.speed[tick], np.zeros(len(self.parked))])
        return TownState(tick, np.stack([*poses, *self._parked_poses]), speed, self)

    def _parked_footprints(self) -> Float64:
        sizes = np.array([car.spec.size_m for car in self.parked]).reshape(-1, 3)
        middles = np.array([car.xy for car in self.parked]).reshape(-1, 2)
        return footprint(middles, np.array([car.yaw for car in self.parked]), sizes[:, 0], sizes[:, 1])

    def _make_agents(self, rng: np.random.Generator) -> tuple[TownAgent, ...]:
        """The sensing vehicles, the ego first, then the roadside units."""
        ego_xy = self.drives[0].path.xy[0]
        vehicles = [
            vehicle_agent(number, str(FIRST_ID + number), self.specs[number], self.preset, rng)
            for number in range(self.preset.vehicles)
        ]
        units = [roadside_agent(str(-1 - number), self.map, ego_xy, self.preset, rng) for number in range(self.preset.roadside)]
        return (*vehicles, *units)


def on_ground(town: TownMap, xy: Float64, yaw: float, above_m: float) -> Float64:
    """Pose (4, 4) of a vehicle on the ground: its x axis along `yaw`, its z axis the ground's normal."""
    up = town.ground.normal(xy)
    forward = np.array([np.cos(yaw), np.sin(yaw), 0.0])
    forward -= (forward @ up) * up
    forward /= np.linalg.norm(forward)
    pose = np.eye(4)
    (a, b, c), (d, e, f) = up, forward
    # Written out: numpy's own cross product of two single vectors takes twenty times as long.
    pose[:3, 0], pose[:3, 1], pose[:3, 2] = forward, (b * f - c * e, c * d - a * f, a * e - b * d), up
    pose[:3, 3] = [xy[0], xy[1], town.ground.height(xy) + above_m]
    return pose
