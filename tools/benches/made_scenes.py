"""Scenes made by numpy alone, without a town, a data set or Open3D: vehicles on a plane, seen by LiDARs; images are noise."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from heal.box_corners import boxes_to_corners
from heal.se3 import pose_to_SE3
from heal.types import AgentFrame, CameraView, Float64, LidarScan, ObjectLabels, SceneOutline, SensorChoice

SENSOR_HEIGHT_M, RANGE_M = 1.9, 100.0
HEIGHT_M, WIDTH_M, LENGTH_M = 1.5, 1.8, 4.4
SPACE_M = 6.0  # between two vehicles, or a vehicle and an agent
GROUND_INTENSITY, CAR_INTENSITY = 0.2, 0.7
# From a camera's axes (x right, y down, z forward) to an agent's (x forward, y left, z up).
_LOOKING_AHEAD = np.array([[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class MadeScenes:
    """Scenes that are the same on every machine; each is a recording of its own.

    Attributes:
        scenes: number of scenes.
        agents: number of agents; the first is the ego.
        cars: number of vehicles.
        half_m: vehicles stand up to this far from the ego in x and y.
        beams: laser lines of every LiDAR.
        columns: points of a line over a full turn.
        image_px: height and width of images; every agent has four cameras.
        seed: other seeds give other scenes.
    """

    scenes: int
    agents: int
    cars: int = 20
    half_m: float = 45.0
    beams: int = 64
    columns: int = 1800
    image_px: tuple[int, int] = (600, 800)
    seed: int = 0

    def __len__(self) -> int:
        """Return the number of scenes."""
        return self.scenes

    def outline(self, index: int) -> SceneOutline:
        """Return the agents of a scene; the timestamps are 10 s apart."""
        ids = tuple(str(i) for i in range(self.agents))
        return SceneOutline(f"made-{index}/0", index * 10**10, ids[0], ids, _layout(self, index).world_SE3_agents[0])

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """Return what an agent senses, and the vehicles that its LiDAR hits as its labels; images are noise."""
        choice, layout, cast = choice or SensorChoice(), _layout(self, index), _cast(self, index, int(agent_id))
        pose = layout.world_SE3_agents[int(agent_id)]
        lidar = LidarScan(cast.points) if choice.lidar else None
        cameras = self._cameras(index, int(agent_id), choice.depth) if choice.cameras else ()
        labels = ObjectLabels(cast.hit, boxes_to_corners(layout.world_boxes[cast.hit]))
        return AgentFrame(agent_id, "vehicle", index * 10**10, pose, pose, lidar, cameras, labels)

    def scene_objects(self, index: int) -> None:
        """Return None: the labels are those of the agents."""

    def _cameras(self, index: int, agent: int, depth: bool) -> tuple[CameraView, ...]:
        rng, (height, width) = np.random.default_rng((self.seed, index, agent, 1)), self.image_px
        intrinsic = np.array([[width / 2, 0, width / 2], [0, width / 2, height / 2], [0, 0, 1.0]])
        views = []
        for i in range(4):
            image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            far = rng.uniform(3, 40, (height, width)).astype(np.float32) if depth else None
            views.append(CameraView(f"camera{i}", image, intrinsic, pose_to_SE3([0, 0, 0, 0, 90 * i, 0]) @ _LOOKING_AHEAD, far))
        return tuple(views)


@dataclass(frozen=True)
class _Layout:
    """Where everything is in a scene: (A, 4, 4) poses of the agents, (N, 7) boxes of the vehicles in the world."""

    world_SE3_agents: Float64
    world_boxes: Float64


@dataclass(frozen=True)
class _Cast:
    """A sweep: (P, 4) float32 points in the agent's frame with intensities, and the indices of the vehicles that are hit."""

    points: np.ndarray
    hit: np.ndarray


@functools.lru_cache(maxsize=64)
def _layout(made: MadeScenes, index: int) -> _Layout:
    """Place agents within 15 m of the origin and vehicles where nothing else stands; a scene too full has fewer vehicles."""
    rng = np.random.default_rng((made.seed, index))
    agents = np.concatenate([[(0.0, 0.0)], rng.uniform(-15, 15, (made.agents - 1, 2))])
    taken, boxes = list(agents), list[tuple[float, ...]]()
    for xy in rng.uniform(-made.half_m, made.half_m, (20 * made.cars, 2)):
        if len(boxes) < made.cars and min(np.hypot(*(xy - other)) for other in taken) > SPACE_M:
            taken.append(xy)
            boxes.append((*xy, HEIGHT_M / 2, HEIGHT_M, WIDTH_M, LENGTH_M, rng.uniform(-np.pi, np.pi)))
    poses = [
        pose_to_SE3([*xy, SENSOR_HEIGHT_M, 0, yaw, 0]) for xy, yaw in zip(agents, rng.uniform(-180, 180, len(agents)), strict=True)
    ]
    return _Layout(np.stack(poses), np.array(boxes).reshape(-1, 7))


@functools.lru_cache(maxsize=64)
def _cast(made: MadeScenes, index: int, agent: int) -> _Cast:
    """Cast the rays of an agent's LiDAR onto the plane and the vehicles; the nearest hit counts."""
    layout, rng = _layout(made, index), np.random.default_rng((made.seed, index, agent))
    elevation, azimuth = np.meshgrid(np.radians(np.linspace(-25, 2, made.beams)), np.linspace(-np.pi, np.pi, made.columns, False))
    rays = np.stack([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], -1).reshape(
        -1, 3
    )
    pose = layout.world_SE3_agents[agent]
    world_rays = rays @ pose[:3, :3].T
    with np.errstate(divide="ignore"):
        distance_m = np.where(world_rays[:, 2] < 0, -SENSOR_HEIGHT_M / world_rays[:, 2], np.inf)
        owner = np.full(len(rays), -1)
        for car, box in enumerate(layout.world_boxes):
            to_car_m = _distance_to_box(pose[:3, 3], world_rays, box)
            owner[to_car_m < distance_m] = car
            distance_m = np.minimum(distance_m, to_car_m)
    seen = distance_m < RANGE_M
    xyz = rays[seen] * (distance_m[seen] + rng.normal(0, 0.01, seen.sum()))[:, None]
    intensity = np.where(owner[seen] < 0, GROUND_INTENSITY, CAR_INTENSITY)
    hit = np.unique(owner[seen & (owner >= 0)])
    return _Cast(np.concatenate([xyz, intensity[:, None]], 1).astype(np.float32), hit)


def _distance_to_box(origin_m: Float64, rays: Float64, box: Float64) -> Float64:
    """Return the distance along each ray (R, 3) from an origin to an upright box (7,); infinite where the ray misses it."""
    cos, sin = np.cos(box[6]), np.sin(box[6])
    box_R_world = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    start, directions = box_R_world @ (origin_m - box[:3]), rays @ box_R_world.T
    half = np.array([box[5], box[4], box[3]]) / 2
    one, other = (-half - start) / directions, (half - start) / directions
    enters, leaves = np.minimum(one, other).max(axis=1), np.maximum(one, other).min(axis=1)
    return np.where((enters <= leaves) & (enters > 0), enters, np.inf)
