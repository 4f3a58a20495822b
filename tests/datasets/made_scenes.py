"""Small scenes of a vehicle and a roadside unit, right-handed and tilted, for the tests of what writes scenes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heal.box_corners import boxes_to_corners
from heal.se3 import pose_to_SE3
from heal.types import AgentFrame, CameraView, Float64, LidarScan, ObjectLabels, Scene

# A camera that looks ahead, 1 m before the LiDAR: x right, y down, z forward, in axes x forward, y left, z up.
FORWARD_CAMERA = np.array([[0.0, 0.0, 1.0, 1.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.2], [0.0, 0.0, 0.0, 1.0]])
INTRINSIC = np.array([[20.5, 0.0, 8.25], [0.0, 20.25, 6.125], [0.0, 0.0, 1.0]])
TIMES_NS = (100_000_000, 200_000_000, 350_000_123)
BOXES = np.array([[12.0, 3.0, 0.8, 1.6, 1.9, 4.5, 0.3], [30.0, -6.0, 1.4, 2.8, 2.4, 9.0, -2.0]])


def made_scenes(times_ns: Sequence[int] = TIMES_NS) -> list[Scene]:
    """Make scenes of the vehicle 7, which drives and sees two objects, and the roadside unit -1, which sees one of them."""
    return [_scene(step, time_ns) for step, time_ns in enumerate(times_ns)]


def _scene(step: int, time_ns: int) -> Scene:
    rng = np.random.default_rng(step)
    objects = ObjectLabels(np.array([301, 302]), boxes_to_corners(BOXES + np.eye(7)[0] * step))
    driven = pose_to_SE3([float(step), 0.5 * step, 1.9, 0.4, 3.0 * step, -0.7])
    vehicle = _frame("7", time_ns, driven, objects, rng)
    roadside = _frame("-1", time_ns, pose_to_SE3([20.0, 8.0, 5.0, 0.0, -110.0, 0.0]), objects.select(objects.ids == 302), rng)
    return Scene.of([vehicle, roadside], f"drive/{step}")


def _frame(agent_id: str, time_ns: int, pose: Float64, objects: ObjectLabels, rng: np.random.Generator) -> AgentFrame:
    points = rng.normal(0, 20, (50, 4)).astype(np.float32)
    points[:, 3] = rng.uniform(0, 1, 50)
    image = rng.integers(0, 256, (12, 16, 3), np.uint8)
    depth_m = rng.uniform(1, 200, (12, 16)).astype(np.float32)
    view = CameraView("camera0", image, INTRINSIC, FORWARD_CAMERA, depth_m)
    kind = "roadside" if agent_id.startswith("-") else "vehicle"
    return AgentFrame(agent_id, kind, time_ns, pose, pose, LidarScan(points), (view,), objects)
