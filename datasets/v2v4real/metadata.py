"""The metadata of V2V4Real: the objects of each vehicle in its own LiDAR frame become objects in the world.

    ROOT/train|validate|test/testoutput_CAV_data_2022-03-15-09-54-40_1/0|1/000000.yaml, .pcd

The two vehicles are called 0 and 1. Each frame has a pose `lidar_pose` (4 x 4, LiDAR to world), often written with tags of numpy,
and objects `vehicles: {number: {location, center, extent, angle, obj_type, ass_id}}`. Images are not part of the release.

What is known of the keys, and from where:

* the layout, and `lidar_pose` as rotation and translation: the data set's README and its answers to users;
* objects in the LiDAR frame, angles in radians, and `ass_id`, the number that an object has for both vehicles, -1 if it was not
  found in both: from other people's descriptions of their use of the files, as the data set does not describe them;
* the order of `angle` (roll, yaw, pitch) and the signs of roll and pitch: not documented, taken as in OPV2V. Both are 0 in the
  published excerpt of the labels.

No file of the data set has been read with this module. Angles beyond a full turn, which can be no radians, are an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from heal.datasets.labels import objects_with_ids
from heal.datasets.notation import as_id, as_pose, as_vector, entry_of, is_blank, short
from heal.datasets.opv2v.dialect import Dialect
from heal.datasets.opv2v.metadata import FrameMetadata, parse_metadata
from heal.detection.classes import VEHICLES, Classes
from heal.se3 import SE3_to_pose, pose_to_SE3
from heal.types import Float64

NOT_ASSOCIATED = -1
AGENT_IDS = 100_000  # the ids of the objects that one agent alone knows begin at a multiple of this
FULL_TURN = 2 * np.pi


def parse_v2v4real(values: Mapping[str, Any], agent_id: str, classes: Classes = VEHICLES) -> FrameMetadata:
    """Convert the content of a metadata file.

    Args:
        values: the content.
        agent_id: the vehicle, a whole number.
        classes: the classes of the objects that are wanted.

    Raises:
        KeyError: an entry is missing.
        ValueError: an entry has another form, or an angle is not in radians.
    """
    vehicles = values.get("vehicles")
    if vehicles is None:
        return parse_metadata(values, agent_id, classes)
    world_SE3_lidar = as_pose("lidar_pose", values["lidar_pose"])
    return parse_metadata({**values, "vehicles": _in_world(vehicles, agent_id, world_SE3_lidar)}, agent_id, classes)


V2V4REAL = Dialect(
    "V2V4Real",
    parse_v2v4real,
    lines=32,
    own_ids=True,
    recording=re.compile(r"testoutput_CAV_data_.*"),
    entry=re.compile(rb"\bass_id['\"]? *:"),
)


def _in_world(vehicles: Any, agent_id: str, world_SE3_lidar: Float64) -> list[dict[str, Any]]:
    """Return the objects as OPV2V lists them: with ids that no other agent uses for other objects, in world axes, in degrees."""
    first = AGENT_IDS * (1 + as_id("the vehicle's folder", agent_id))
    objects: list[dict[str, Any]] = []
    common: set[int] = set()
    for key, entry in objects_with_ids(vehicles):
        name = f"object {short(key)}"
        number, own = _associated(name, entry), first + as_id(name, key)
        is_common = number != NOT_ASSOCIATED and number not in common
        common.add(number)
        objects.append({**entry, "id": number if is_common else own, **_placed(name, entry, world_SE3_lidar)})
    return objects


def _associated(name: str, entry: Mapping[Any, Any]) -> int:
    """Return the number that an object has for both vehicles; `NOT_ASSOCIATED` if it has none."""
    number = entry.get("ass_id")
    return NOT_ASSOCIATED if is_blank(number) else as_id(f"{name}: ass_id", number)


def _placed(name: str, entry: Mapping[Any, Any], world_SE3_lidar: Float64) -> dict[str, list[float]]:
    """Return location, center and angle of an object in world axes and degrees, given in the LiDAR frame and in radians."""
    location, offset, angle = (
        as_vector(f"{name}: {key}", entry_of(name, entry, key), 3) for key in ("location", "center", "angle")
    )
    if (np.abs(angle) > FULL_TURN).any():
        raise ValueError(f"{name}: angle: expected radians from {-FULL_TURN:.2f} to {FULL_TURN:.2f}, got {angle.tolist()}")
    lidar_SE3_object = pose_to_SE3(np.concatenate([location + offset, np.degrees(angle)]))
    pose = SE3_to_pose(world_SE3_lidar @ lidar_SE3_object).tolist()
    return {"location": pose[:3], "center": [0.0, 0.0, 0.0], "angle": pose[3:]}
