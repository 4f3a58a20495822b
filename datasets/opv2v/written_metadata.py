"""The metadata of an agent's frame as OPV2V's YAML files spell it: what `heal.datasets.opv2v.metadata` reads, written."""

from __future__ import annotations

from typing import Any

import numpy as np

from heal.box_corners import corners_to_oriented
from heal.datasets.opv2v.metadata import UNREAL_SE3_OPENCV
from heal.detection.classes import VEHICLES, Classes
from heal.se3 import SE3_to_pose, inverse_SE3
from heal.types import AgentFrame, CameraView, Float64


def frame_metadata(frame: AgentFrame, labelled: bool = True, classes: Classes = VEHICLES) -> dict[str, Any]:
    """Return the content of an agent's `<stamp>.yaml`.

    Entries that a frame does not tell, such as the speeds, are left out. `timestamp_ns`, the exact time, is an entry of our own.

    Args:
        frame: its cameras are called camera0, camera1 and on.
        labelled: whether the frame has labels; without labels there is no entry `vehicles`.
        classes: the classes of its objects. Unless they are vehicles alone, the type of each object is written: the first type of
            its class.
    """
    return {
        "RSU": frame.kind == "roadside",
        "timestamp_ns": frame.timestamp_ns,
        **{view.name: _camera(view, frame.world_SE3_agent) for view in frame.cameras},
        "lidar_pose": SE3_to_pose(frame.world_SE3_agent).tolist(),
        **({"vehicles": _vehicles(frame, classes)} if labelled else {}),
    }


def _camera(view: CameraView, world_SE3_lidar: Float64) -> dict[str, Any]:
    """Return a camera.

    `extrinsic` maps LiDAR coordinates to camera coordinates x forward, y right, z up, whatever the hand of the world. The six
    numbers of `cords` cannot mirror, so in a right-handed world they stand for camera axes x forward, y left, z up.
    `agent_SE3_camera` is an entry of our own, for axes x right, y down, z forward, and exact.
    """
    agent_SE3_unreal = view.agent_SE3_camera @ inverse_SE3(UNREAL_SE3_OPENCV)
    mirrors = np.linalg.det(agent_SE3_unreal[:3, :3]) < 0
    agent_SE3_body = agent_SE3_unreal @ np.diag([1.0, -1.0 if mirrors else 1.0, 1.0, 1.0])
    return {
        "agent_SE3_camera": view.agent_SE3_camera.tolist(),
        "cords": SE3_to_pose(world_SE3_lidar @ agent_SE3_body).tolist(),
        "extrinsic": inverse_SE3(agent_SE3_unreal).tolist(),
        "intrinsic": view.intrinsic.tolist(),
    }


def _vehicles(frame: AgentFrame, classes: Classes) -> dict[int, dict[str, Any]]:
    """Return the labelled objects by id. OPV2V's readers add `center` to `location`, so `center` is in world axes."""
    objects = frame.objects
    poses, sizes = corners_to_oriented(objects.world_corners)
    vehicles: dict[int, dict[str, Any]] = {}
    for number, kind, pose, half in zip(objects.ids.tolist(), objects.classes.tolist(), poses, sizes / 2, strict=True):
        up = pose[:3, 2] * half[2]
        angle = SE3_to_pose(pose)[3:].tolist()
        location = (pose[:3, 3] - up).tolist()
        vehicles[number] = {"angle": angle, "center": up.tolist(), "extent": half.tolist(), "location": location}
        if classes != VEHICLES:
            vehicles[number]["obj_type"] = classes[kind].types[0]
    return vehicles
