"""The metadata of CooperScene, which are nearly those of OPV2V: roadside unit, times, intensities and tilts are told otherwise.

    cooperscene/train|validate|test/1|2|.../0|1|2|3/481260.yaml, .pcd, _camera0.png

Agent 0 is the roadside unit, with a LiDAR alone; agents 1 to 3 are vehicles, which also have a front camera. The takes have plain
numbers, so the data set is recognised by the name of its folder, which must contain "cooperscene", or by the entry `lla_origin`.

What is known of the keys, and from where:

* the layout, the agents and 10 frames a second: the data set's README and its card;
* `lidar_pose` (4 x 4, or six numbers as in OPV2V), objects in world axes with one id for all agents, angles in degrees: the
  metadata of three agents at one instant that the authors have published;
* the signs of roll and pitch are those of OPV2V for a user of the released files, and the opposite in that instant, where the
  boxes have exactly the LiDAR's upright axis. Both are read: a file has the opposite signs if most of its boxes have that axis with
  them, and not with OPV2V's;
* intensities are 16-bit values, 0 to 65535, in the field `intensity`;
* the step of the frames' numbers is not documented: the smallest step of a recording counts as a tenth of a second;
* the calibration of the cameras is not part of these files. A frame has a camera only if its metadata have `camera0` as OPV2V
  does.

No cloud or image of the data set has been read with this module.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from heal.datasets.labels import objects_with_ids
from heal.datasets.notation import as_pose, as_vector
from heal.datasets.opv2v.dialect import Dialect
from heal.datasets.opv2v.metadata import FrameMetadata, parse_metadata
from heal.detection.classes import VEHICLES, Classes
from heal.se3 import pose_to_SE3
from heal.types import Float64, is_roadside_name

ROADSIDE_UNIT = "0"
_OPPOSITE_TILT = np.array([-1.0, 1.0, -1.0])  # factors of roll, yaw and pitch
_UPRIGHT = 1e-3  # of the angle between two axes, in radians; in the published instant it is below 1e-6


def is_roadside(agent_id: str) -> bool:
    """Whether an agent is the roadside unit."""
    return agent_id == ROADSIDE_UNIT or is_roadside_name(agent_id)


def parse_cooperscene(values: Mapping[str, Any], agent_id: str = "", classes: Classes = VEHICLES) -> FrameMetadata:
    """Convert the content of a metadata file; KeyError for a missing entry, ValueError for an entry in another form."""
    vehicles = values.get("vehicles")
    # Six numbers have the same signs as the angles of the objects, whichever they are, and are read as OPV2V's.
    if vehicles is None or np.shape(values["lidar_pose"]) != (4, 4):
        return parse_metadata(values, agent_id, classes)
    world_SE3_lidar = as_pose("lidar_pose", values["lidar_pose"])
    objects = [{**entry, "id": key} for key, entry in objects_with_ids(vehicles)]
    angles = {number: as_vector("angle", entry["angle"], 3) for number, entry in enumerate(objects) if "angle" in entry}
    opposite = {number: angle * _OPPOSITE_TILT for number, angle in angles.items()}
    if _most_stand_upright(world_SE3_lidar, opposite.values()) and not _most_stand_upright(world_SE3_lidar, angles.values()):
        for number, angle in opposite.items():
            objects[number]["angle"] = angle
    return parse_metadata({**values, "vehicles": objects}, agent_id, classes)


COOPERSCENE = Dialect(
    "CooperScene",
    parse_cooperscene,
    is_roadside=is_roadside,
    stamp_ns=None,
    intensity_top=65535.0,
    root=re.compile(r"cooperscene", re.IGNORECASE),
    recording=re.compile(r"\d+"),
    entry=re.compile(rb"^[\s\"']*lla_origin['\"]? *:", re.MULTILINE),
)


def _most_stand_upright(world_SE3_lidar: Float64, angles: Iterable[Float64]) -> bool:
    """Whether most objects with `angles` (roll, yaw, pitch in degrees) have the upright axis of the LiDAR."""
    axes = [pose_to_SE3([0.0, 0.0, 0.0, *angle])[:3, 2] for angle in angles]
    upright = sum(bool(np.linalg.norm(axis - world_SE3_lidar[:3, 2]) < _UPRIGHT) for axis in axes)
    return 2 * upright > len(axes)
