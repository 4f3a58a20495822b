"""A folder tree in V2X-Real's layout with every key that is published, written from scenes of the town."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from heal.se3 import SE3_to_pose
from heal.types import Float64
from tests.datasets.road_scenes import ROADSIDE, VEHICLES, TrueFrame, town_frames, write_metadata

RECORDING = "2023-03-17-15-53-02_1_0"
CAMERAS = {"1": 4, "2": 4, "-1": 2}
INTRINSIC = [[1068.97, 0.0, 975.74], [0.0, 1068.97, 539.95], [0.0, 0.0, 1.0]]
# From the LiDAR's x forward, y left, z up to a camera that looks forward, 0.7 m ahead and 0.6 m below.
EXTRINSIC = [[0.0, 0.0, 1.0, 0.7], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, -0.6], [0.0, 0.0, 0.0, 1.0]]
# Objects of other classes, which only the first vehicle lists.
OTHERS = {9001: "Pedestrian", 9002: "Pedestrian", 9003: "ScooterRider", 9004: "TrashCan"}


def v2xreal_frames() -> dict[str, list[TrueFrame]]:
    """Return the frames of two vehicles, called 1 and 2, and of a roadside unit, called -1."""
    town = town_frames()
    return {"1": town[VEHICLES[0]], "2": town[VEHICLES[1]], "-1": town[ROADSIDE]}


def write_v2xreal(root: Path, frames: dict[str, list[TrueFrame]], *, rings: bool = True) -> Path:
    """Write ROOT/test; with `rings`, the clouds have a fifth column."""
    for agent_id, own in frames.items():
        for frame in own:
            stem = root / "test" / RECORDING / agent_id / f"{frame.tick:06d}"
            write_metadata(stem.with_suffix(".yaml"), metadata(frame, agent_id))
            columns = [frame.points[:, :3], frame.points[:, 3] * 255, *([np.arange(len(frame.points)) % 128] if rings else [])]
            np.column_stack(columns).astype("<f4").tofile(stem.with_suffix(".bin"))
            for number in range(1, CAMERAS[agent_id] + 1):
                Image.fromarray(np.full((6, 8, 3), 50 * number, np.uint8)).save(f"{stem}_cam{number}.jpeg")
    return root


def metadata(frame: TrueFrame, agent_id: str) -> dict[str, Any]:
    """Return the metadata of a frame; `cords` is no pose of a camera, as in the published frames."""
    camera = {"cords": [*frame.pose[:3, 3].tolist(), 1.6, 179.9, 1.3], "extrinsic": EXTRINSIC, "intrinsic": INTRINSIC}
    objects = {each.object_id: listed(each.world_SE3_object, each.half_m, "Car") for each in frame.objects}
    others = {number: listed(frame.pose, [0.3, 0.3, 0.8], kind) for number, kind in OTHERS.items()} if agent_id == "1" else {}
    return {
        **{f"cam{number}": camera for number in range(1, CAMERAS[agent_id] + 1)},
        "ego_speed": 0,
        "infra": agent_id.startswith("-"),
        "lidar_pose": SE3_to_pose(frame.pose).tolist(),
        "true_ego_pose": SE3_to_pose(frame.pose).tolist(),
        "vehicles": objects | others,
    }


def listed(world_SE3_object: Float64, half_m: list[float], kind: str) -> dict[str, Any]:
    """Return an object as it is listed."""
    pose = SE3_to_pose(world_SE3_object).tolist()
    return {"angle": pose[3:], "attribute": "", "center": [0, 0, 0], "extent": half_m, "location": pose[:3], "obj_type": kind}
