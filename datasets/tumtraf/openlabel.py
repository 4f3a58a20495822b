"""Read a label file of TUMTraf-V2X, ASAM OpenLABEL in JSON: the boxes of one frame, the vehicle's pose and the clouds' names."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from heal.datasets.files import errors_naming, read_json
from heal.datasets.labels import kept_labels, posed_objects
from heal.datasets.notation import as_mapping, as_SE3, as_text, as_vector, entry_of, short
from heal.detection.classes import VEHICLES, Classes
from heal.se3 import quaternions_to_SE3
from heal.types import Float64, ObjectLabels

VEHICLE_LIDAR, ROADSIDE_LIDAR = "vehicle_lidar_robosense", "s110_lidar_ouster_south"
EXAMPLE = "1688626050_947334296_vehicle_lidar_robosense"  # of a file's name: seconds, nanoseconds, sensor
STAMP = re.compile(r"\d{1,10}_\d{1,9}_")
TRANSFORM = f"{VEHICLE_LIDAR}_to_{ROADSIDE_LIDAR}"


@dataclass(frozen=True)
class LabelledFrame:
    """The content of a label file. The world is the roadside LiDAR's frame, in which the boxes are given.

    Attributes:
        objects: the labelled objects of the wanted classes.
        left_out: number of labels that do not count, by their type or as `labels.WITHOUT_SIZE`.
        world_SE3_vehicle: (4, 4) the vehicle LiDAR's pose.
        clouds: sensor -> file name and time (nanoseconds since 1970) of its sweep.
    """

    objects: ObjectLabels
    left_out: Mapping[str, int]
    world_SE3_vehicle: Float64
    clouds: Mapping[str, tuple[str, int]]


def read_frame(path: Path, classes: Classes = VEHICLES) -> LabelledFrame:
    """Read a label file with the objects of some classes; DatasetError if it is missing or cannot be used."""
    with errors_naming(path):
        changed = path.stat().st_mtime_ns
    return _read_cached(path, changed, classes)


# A few kB each; a training reads every file in every epoch, for the outline, the labels and each agent.
@lru_cache(maxsize=4096)
def _read_cached(path: Path, changed_ns: int, classes: Classes) -> LabelledFrame:
    """Read a file once; a rewritten file has another `changed_ns` and is read again."""
    values = read_json(path)
    with errors_naming(path):
        return _parse(as_mapping("the file", values), classes)


def _parse(values: Mapping[Any, Any], classes: Classes) -> LabelledFrame:
    frames = as_mapping(
        "frames", entry_of("openlabel", as_mapping("openlabel", entry_of("the file", values, "openlabel")), "frames")
    )
    if len(frames) != 1:
        raise ValueError(f"frames: expected one frame in a file, got {len(frames)}")
    [frame] = (as_mapping("frame", value) for value in frames.values())
    properties = as_mapping("frame_properties", entry_of("frame", frame, "frame_properties"))
    transforms = as_mapping("transforms", entry_of("frame_properties", properties, "transforms"))
    transform = as_mapping(TRANSFORM, entry_of("transforms", transforms, TRANSFORM))
    source_to_target = as_mapping("transform_src_to_dst", entry_of(TRANSFORM, transform, "transform_src_to_dst"))
    matrix = as_vector("matrix4x4", entry_of("transform_src_to_dst", source_to_target, "matrix4x4"), 16).reshape(4, 4)
    names = entry_of("frame_properties", properties, "point_cloud_file_names")
    objects, left_out = _objects(as_mapping("objects", frame.get("objects") or {}), classes)
    clouds = {sensor_of(name): (name, stamp_ns(name)) for name in map(_file_name, names)}
    return LabelledFrame(objects, left_out, as_SE3(TRANSFORM, matrix[:3, :3], matrix[:3, 3]), clouds)


def _objects(entries: Mapping[Any, Any], classes: Classes) -> tuple[ObjectLabels, Counter[str]]:
    """Convert the objects of a frame: track id -> {object_data: {type, cuboid: {val}}}."""
    types: list[str] = []
    boxes = np.zeros((len(entries), 10))
    for row, (track, entry) in enumerate(entries.items()):
        name = f"object {track}"
        data = as_mapping(f"{name}: object_data", entry_of(name, as_mapping(name, entry), "object_data"))
        types.append(as_text(f"{name}: type", entry_of(name, data, "type")))
        cuboid = entry_of(name, data, "cuboid")
        cuboid = cuboid[0] if isinstance(cuboid, list) and cuboid else cuboid
        boxes[row] = as_vector(f"{name}: cuboid", entry_of(name, as_mapping(f"{name}: cuboid", cuboid), "val"), 10)
        if not boxes[row, 3:7].any():
            raise ValueError(f"{name}: cuboid: expected a quaternion x, y, z, w that is not 0")
    world_SE3_objects = quaternions_to_SE3(boxes[:, :3], boxes[:, [6, 3, 4, 5]])
    ids = np.array([track_number(str(track)) for track in entries], np.int64)
    objects = posed_objects(ids, types, world_SE3_objects, boxes[:, 7:], classes)
    return objects, kept_labels(types, boxes[:, 7:], classes)[1]


def track_number(track: str) -> int:
    """Return the number of a track, which is named by a UUID: the same in all frames, and in practice no other track's."""
    return int.from_bytes(hashlib.blake2b(track.encode(), digest_size=8).digest(), "little") >> 1


def _file_name(name: Any) -> str:
    return PurePosixPath(as_text("point_cloud_file_names", name)).name


def sensor_of(name: str) -> str:
    """Return the sensor in a file's name such as `EXAMPLE`."""
    return PurePosixPath(name).stem.split("_", 2)[-1]


def has_stamp(name: str) -> bool:
    """Whether a file's name begins with a time, as `EXAMPLE`."""
    return STAMP.match(name) is not None


def stamp_ns(name: str) -> int:
    """Return the time in a file's name, which begins with seconds and nanoseconds since 1970; ValueError for another name."""
    if not has_stamp(name):
        raise ValueError(f"expected a file name such as {EXAMPLE}.pcd, got {short(name)}")
    seconds, nanoseconds = name.split("_")[:2]
    return int(seconds) * 1_000_000_000 + int(nanoseconds)
