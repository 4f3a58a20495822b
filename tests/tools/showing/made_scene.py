"""A scene written by hand: a vehicle and a roadside unit, each with a camera, and five cars of which both have points."""

from __future__ import annotations

import numpy as np

from heal.box_corners import boxes_to_corners
from heal.se3 import inverse_SE3, pose_to_SE3, transform_points
from heal.types import AgentFrame, AgentKind, CameraView, Float64, LidarScan, ObjectLabels, Scene

# From an OpenCV camera (x right, y down, z forward) to an agent (x forward, y left, z up).
AGENT_SE3_OPENCV = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]], np.float64)
INTRINSIC = np.array([[90.0, 0, 320], [0, 90, 240], [0, 0, 1]])
VEHICLE, ROADSIDE = pose_to_SE3([1000, 500, 2, 0, 30, 0]), pose_to_SE3([1035, 515, 6, 0, 200, 0])
# Centres x, y in metres in the vehicle's frame of cars of 4 x 2 x 1.5 m, which stand 2 m below its LiDAR.
CARS = ((8.0, 3.0), (14.0, -4.0), (20.0, 9.0), (27.0, 2.0), (12.0, 12.0))


def camera_at(x: float = 0.0, y: float = 0.0, z: float = 0.0, intrinsic: Float64 = INTRINSIC) -> CameraView:
    """A camera of 640 x 480 pixels that looks along the agent's x axis."""
    pose = AGENT_SE3_OPENCV.copy()
    pose[:3, 3] = x, y, z
    return CameraView("camera0", np.full((480, 640, 3), 90, np.uint8), intrinsic, pose)


def cars() -> ObjectLabels:
    """The cars in the world, with ids 10 to 14."""
    boxes = np.array([[x, y, -1.25, 1.5, 2.0, 4.0, 0.4] for x, y in CARS])
    return ObjectLabels(np.arange(10, 15), transform_points(VEHICLE, boxes_to_corners(boxes)))


def points_on(objects: ObjectLabels, world_SE3_agent: Float64, count: int = 20, floor: bool = False) -> LidarScan:
    """Points in the upper half of each car, or on the ground below it, in an agent's frame."""
    rng = np.random.default_rng(1)
    low, high = objects.world_corners[:, None, :4], objects.world_corners[:, None, 4:]
    shares = rng.dirichlet(np.ones(4), size=(len(objects), count))[..., None]  # in each car, somewhere between its four sides
    height = 0.0 if floor else rng.uniform(0.5, 1.0, (len(objects), count, 1, 1))
    world = ((low + height * (high - low)) * shares).sum(axis=2).reshape(-1, 3)
    xyz = transform_points(inverse_SE3(world_SE3_agent), world)
    return LidarScan(np.column_stack([xyz, np.full(len(xyz), 0.5)]).astype(np.float32))


def frame_of(name: str, pose: Float64, view: CameraView | None = None, scan: LidarScan | None = None) -> AgentFrame:
    """A frame of an agent whose cloud is that of the pose; both know all cars."""
    kind: AgentKind = "roadside" if name == "rsu" else "vehicle"
    cloud = points_on(cars(), pose) if scan is None else scan
    return AgentFrame(name, kind, 0, pose, pose, cloud, (view or camera_at(),), cars())


def made_scene() -> Scene:
    """The scene, whose calibration is right."""
    return Scene.of([frame_of("car", VEHICLE), frame_of("rsu", ROADSIDE)], "made/000001")
