"""A folder tree in V2V4Real's layout with every key that is known, written from scenes of the town."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from heal.datasets.pcd import write_pcd
from heal.se3 import SE3_to_pose, inverse_SE3
from tests.datasets.road_scenes import VEHICLES, TrueFrame, town_frames, write_metadata

RECORDING = "testoutput_CAV_data_2022-03-15-09-54-40_1"


def v2v4real_frames() -> dict[str, list[TrueFrame]]:
    """Return the frames of the town's two vehicles, called 0 and 1."""
    return {str(number): town_frames()[agent_id] for number, agent_id in enumerate(VEHICLES)}


def write_v2v4real(root: Path, frames: dict[str, list[TrueFrame]], *, associated: bool = True) -> Path:
    """Write ROOT/test; with `associated`, the objects that both vehicles see have a common number."""
    for agent_id, own in frames.items():
        for frame in own:
            seen = [{each.object_id for each in other[frame.tick].objects} for other in frames.values()]
            common = set.intersection(*seen) if associated else set()
            stem = root / "test" / RECORDING / agent_id / f"{frame.tick:06d}"
            write_metadata(stem.with_suffix(".yaml"), metadata(frame, common), yaml.Dumper)
            write_pcd(stem.with_suffix(".pcd"), frame.points)
    return root


def metadata(frame: TrueFrame, common: set[int]) -> dict[str, Any]:
    """Return the metadata of a frame. Both vehicles number their objects from 0, each in its own LiDAR frame."""
    vehicles: dict[int, Any] = {}
    for number, each in enumerate(frame.objects):
        local = SE3_to_pose(inverse_SE3(frame.pose) @ each.world_SE3_object)
        vehicles[number] = {
            "angle": np.radians(local[3:]).tolist(),
            "ass_id": each.object_id if each.object_id in common else -1,
            "attribute": {},
            "center": [0.0, 0.0, 0.0],
            "extent": each.half_m,
            "location": local[:3].tolist(),
            "obj_type": "Car",
        }
    gps = [np.float64(34.07), np.float64(-118.44), np.float64(120.0)]
    return {"ego_speed": 0.0, "gps": gps, "lidar_pose": frame.pose, "true_ego_pos": frame.pose, "vehicles": vehicles}
