"""A folder tree in CooperScene's layout with every key that is published, written from scenes of the town."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heal.se3 import SE3_to_pose
from heal.types import Float64
from tests.datasets.road_scenes import ROADSIDE, VEHICLES, TrueFrame, town_frames, write_ascii_pcd, write_metadata

FIRST_FRAME, STEP = 481260, 3


def cooperscene_frames() -> dict[str, list[TrueFrame]]:
    """Return the frames of a roadside unit, called 0, and of two vehicles, called 1 and 2."""
    town = town_frames()
    return {"0": town[ROADSIDE], "1": town[VEHICLES[0]], "2": town[VEHICLES[1]]}


def write_cooperscene(root: Path, frames: dict[str, list[TrueFrame]], *, opposite_tilt: bool = False) -> Path:
    """Write ROOT/cooperscene/test; with `opposite_tilt`, roll and pitch of the objects have the other sign than in OPV2V."""
    for agent_id, own in frames.items():
        for frame in own:
            stem = root / "cooperscene" / "test" / "1" / agent_id / str(FIRST_FRAME + STEP * frame.tick)
            write_metadata(stem.with_suffix(".yaml"), metadata(frame, opposite_tilt))
            write_ascii_pcd(stem.with_suffix(".pcd"), frame.points, 65535)
    return root / "cooperscene"


def metadata(frame: TrueFrame, opposite_tilt: bool) -> dict[str, Any]:
    """Return the metadata of a frame."""
    return {
        "ego_speed": 0,
        "lidar_pose": frame.pose.tolist(),
        "vehicles": {each.object_id: listed(each.world_SE3_object, each.half_m, opposite_tilt) for each in frame.objects},
    }


def listed(world_SE3_object: Float64, half_m: list[float], opposite_tilt: bool) -> dict[str, Any]:
    """Return an object as it is listed."""
    x, y, z, roll, yaw, pitch = SE3_to_pose(world_SE3_object).tolist()
    angle = [-roll, yaw, -pitch] if opposite_tilt else [roll, yaw, pitch]
    return {"angle": angle, "center": [0, 0, 0], "extent": half_m, "location": [x, y, z], "speed": 0.0}
