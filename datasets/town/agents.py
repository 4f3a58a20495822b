"""Place the sensors of a town's agents: vehicles have a LiDAR on the roof, roadside units on a pole; both have cameras."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heal.datasets.town.geometry.materials import Material
from heal.datasets.town.geometry.mesh import Mesh, cylinder, merge, up
from heal.datasets.town.presets import TownPreset
from heal.datasets.town.sensors.lidar import LidarUnit, draw_lidar
from heal.datasets.town.world.highway import roadside_place
from heal.datasets.town.world.streets import KERB_M, TownMap
from heal.datasets.town.world.vehicles import VehicleSpec
from heal.se3 import pose_to_SE3
from heal.types import AgentKind, Float64

VIRTUAL_LIDAR_M = 1.7  # height of a roadside unit's frame above the ground
CAMERA_YAWS_DEG = (0.0, 100.0, -100.0, 180.0)


@dataclass(frozen=True)
class TownAgent:
    """One agent's sensors.

    Attributes:
        agent_id: "1000" and on for vehicles, "-1" and on for roadside units.
        kind: vehicle or roadside.
        vehicle: number of the vehicle that carries it, None for a roadside unit.
        carrier_SE3_agent: (4, 4) pose of the agent's frame in the vehicle's frame; for a roadside unit in the world.
        agent_SE3_lidar: (4, 4) pose of the LiDAR in the agent's frame. The identity for a vehicle; the frame of a roadside unit is
            the frame of a virtual LiDAR near the ground.
        carrier_SE3_cameras: (C, 4, 4) poses of the front, right rear, left rear and back cameras, or of the front camera alone, in
            the vehicle's frame or in the world; x forward, y right, z up.
        lidar: the LiDAR.
        pole: the mesh of a roadside unit's pole; None for a vehicle.
    """

    agent_id: str
    kind: AgentKind
    vehicle: int | None
    carrier_SE3_agent: Float64
    agent_SE3_lidar: Float64
    carrier_SE3_cameras: Float64
    lidar: LidarUnit
    pole: Mesh | None = None


def vehicle_agent(number: int, agent_id: str, spec: VehicleSpec, preset: TownPreset, rng: np.random.Generator) -> TownAgent:
    """Draw the sensors of a vehicle: the LiDAR half a metre behind the middle of the roof, mounted slightly tilted, and cameras.

    A camera that is the only one sits at the LiDAR's foot and looks ahead.

    Args:
        number: number of the vehicle in the town.
        agent_id: id of the agent.
        spec: kind and sizes of the vehicle.
        preset: settings of the town.
        rng: the town's numbers for sensors.
    """
    lidar = draw_lidar(preset.lidars[int(rng.integers(len(preset.lidars)))], preset, rng)
    height = max(float(rng.uniform(*preset.lidar_height_m)), spec.height_m + 0.36)
    tilt = rng.uniform(-preset.mount_deg, preset.mount_deg, 2)
    mount = pose_to_SE3([-0.5, 0.0, height, tilt[0], rng.normal(0, 0.2), tilt[1]])
    top, front = spec.height_m + 0.1, spec.length_m / 2
    places = [(front + 0.05, 0.0, 1.0), (0.0, 0.3, top + 0.1), (0.0, -0.3, top + 0.1), (0.1 - front, 0.0, top)]
    cameras = [pose_to_SE3([*place, 0.0, yaw, 0.0]) for place, yaw in zip(places, CAMERA_YAWS_DEG, strict=True)]
    if preset.views == "ahead":
        cameras = [pose_to_SE3([-0.3, 0.0, height - 0.25, 0.0, rng.uniform(-3.0, 3.0), rng.uniform(-2.0, 0.5)])]
    return TownAgent(agent_id, "vehicle", number, mount, np.eye(4), np.stack(cameras), lidar)


def roadside_agent(agent_id: str, town: TownMap, ego_xy: Float64, preset: TownPreset, rng: np.random.Generator) -> TownAgent:
    """Draw a roadside unit on a pole at a corner of the middle crossing, or beside a highway.

    The unit looks across the crossing and down a street, with triple chances down a street from which the ego comes. A camera that
    is the only one sits above the LiDAR and looks down on the crossing.

    Args:
        agent_id: id of the agent.
        town: map of the town.
        ego_xy: (2,) world position of the ego at the start.
        preset: settings of the town.
        rng: the town's numbers for sensors.
    """
    foot, yaw = _roadside_place(town, ego_xy, rng)
    height = float(rng.uniform(*preset.pole_m))
    frame = pose_to_SE3([*(foot + up(VIRTUAL_LIDAR_M)), 0.0, yaw, 0.0])
    name = preset.roadside_lidars[int(rng.integers(len(preset.roadside_lidars)))]
    lidar_pose = pose_to_SE3([0.0, 0.0, height - VIRTUAL_LIDAR_M, *rng.uniform(-0.5, 0.5, 3)])
    cameras = [pose_to_SE3([*(foot + up(height - 0.35)), 0.0, yaw + turn, -18.0]) for turn in CAMERA_YAWS_DEG]
    lidar = draw_lidar(name, preset, rng)
    if preset.views == "ahead":
        eye = foot + up(height + 1.5)
        cameras = [pose_to_SE3([*eye, rng.uniform(-2.5, 2.5), yaw + rng.uniform(-6.0, 6.0), rng.uniform(-12.5, -8.0)])]
    return TownAgent(agent_id, "roadside", None, frame, lidar_pose, np.stack(cameras), lidar, _pole(foot, height))


def _roadside_place(town: TownMap, ego_xy: Float64, rng: np.random.Generator) -> tuple[Float64, float]:
    """Draw the world position (3,) of the pole's foot, and the yaw of the unit in degrees."""
    if not town.along_v:
        return roadside_place(town, rng)
    column, row = town.centre
    across, along = town.along_v[column], town.along_u[row]
    places, weights = [], []
    for corner in np.array([(1, 1), (1, -1), (-1, 1), (-1, -1)]):
        uv = town.crossing_uv(column, row) + corner * [across.half_m + 1.2, along.half_m + 1.2]
        if town.ring is not None:
            uv = corner * (town.ring.outer_m + 1.2) / np.sqrt(2.0)
        foot = town.world(uv)
        for direction in (np.array([1.0, 0.25]), np.array([0.25, 1.0])):
            yaw = float(town.warp.heading(uv, -corner * direction / np.linalg.norm(direction)))
            to_ego = np.arctan2(ego_xy[1] - foot[1], ego_xy[0] - foot[0])
            places.append((foot, np.degrees(yaw)))
            weights.append(3.0 if np.cos(to_ego - yaw) > np.cos(np.radians(50.0)) else 1.0)
    return places[int(rng.choice(len(places), p=np.array(weights) / sum(weights)))]


def _pole(foot: Float64, height: float) -> Mesh:
    top = foot + up(height - 0.7)
    pole = cylinder(foot, top, 0.09, Material.METAL, (0.3, 0.31, 0.32), 10)
    return merge([pole, cylinder(foot, foot + up(KERB_M + 0.5), 0.16, Material.METAL, (0.3, 0.31, 0.32), 10)])
