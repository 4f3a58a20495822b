"""Read the metadata of one agent and frame in OPV2V's layout: its pose, its cameras, and the objects labelled around it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from heal.datasets.dataset import DatasetError
from heal.datasets.files import errors_naming, read_json, read_yaml
from heal.datasets.labels import read_opv2v_objects
from heal.datasets.notation import as_id, as_mapping, as_matrix, as_pose, entry_of
from heal.detection.classes import VEHICLES, Classes
from heal.se3 import relative_SE3
from heal.types import Float64, ObjectLabels, require_SE3

CAMERA_NAME = re.compile(r"camera\d+")
# From OpenCV's camera axes (x right, y down, z forward) to Unreal's (x forward, y right, z up), which OPV2V and the town use.
UNREAL_SE3_OPENCV = np.array([[0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class CameraCalibration:
    """Name, camera matrix and pose of a camera, as in `heal.types.CameraView`."""

    name: str
    intrinsic: Float64
    agent_SE3_camera: Float64


@dataclass(frozen=True)
class FrameMetadata:
    """The metadata of one agent and frame.

    Attributes:
        world_SE3_lidar: (4, 4) float64, the agent's pose.
        cameras: the cameras in the order of their names.
        objects: the objects labelled around the agent.
        roadside: whether the entry RSU marks the agent as a roadside unit.
        labelled: whether the file has labels; `vehicles: {}` are labels, a missing or empty entry is none.
        left_out: number of listed objects that do not count, by their type or as `labels.WITHOUT_SIZE`.
        timestamp_ns: the exact time; None where only the stamp tells the time, as in OPV2V itself.
    """

    world_SE3_lidar: Float64
    cameras: tuple[CameraCalibration, ...]
    objects: ObjectLabels
    roadside: bool
    labelled: bool = True
    left_out: Mapping[str, int] = field(default_factory=dict)
    timestamp_ns: int | None = None

    def time_or(self, stamp_ns: int) -> int:
        """Return the exact time in nanoseconds, or else the time that the stamp tells."""
        return stamp_ns if self.timestamp_ns is None else self.timestamp_ns


# Converts the content of a metadata file, of an agent with this id, with the objects of some classes; a KeyError or ValueError says
# what cannot be used.
Parse = Callable[[Mapping[str, Any], str, Classes], FrameMetadata]


def metadata_path(stem: Path) -> Path:
    """Return the file that `read_metadata` reads."""
    path = stem.with_suffix(".json")
    return path if path.exists() else stem.with_suffix(".yaml")


def parse_metadata(values: Mapping[str, Any], _agent_id: str = "", classes: Classes = VEHICLES) -> FrameMetadata:
    """Convert the content of OPV2V's metadata file; KeyError for a missing entry, ValueError for an entry in another form."""
    world_SE3_lidar = as_pose("lidar_pose", values["lidar_pose"])
    names = sorted(key for key in values if isinstance(key, str) and CAMERA_NAME.fullmatch(key))
    cameras = tuple(_camera(name, as_mapping(name, values[name]), world_SE3_lidar) for name in names)
    vehicles = values.get("vehicles")
    objects, left_out = (ObjectLabels.empty(), Counter[str]()) if vehicles is None else read_opv2v_objects(vehicles, classes)
    roadside = bool(values.get("RSU", False))
    time = values.get("timestamp_ns")
    timestamp_ns = None if time is None else as_id("timestamp_ns", time)
    return FrameMetadata(world_SE3_lidar, cameras, objects, roadside, vehicles is not None, left_out, timestamp_ns)


def read_metadata(stem: Path, parse: Parse = parse_metadata, classes: Classes = VEHICLES) -> FrameMetadata:
    """Read `stem`.json, which is faster, or else `stem`.yaml; DatasetError if the file is missing or cannot be used."""
    path = metadata_path(stem)
    with errors_naming(path):
        changed = path.stat().st_mtime_ns
    return _read_cached(path, changed, parse, classes)


# A few kB each; training reads every file in every epoch, and YAML is slow.
@lru_cache(maxsize=4096)
def _read_cached(path: Path, changed_ns: int, parse: Parse, classes: Classes) -> FrameMetadata:
    """Read a file once for a scene's outline, frames and labels; a rewritten file has another `changed_ns` and is read again."""
    values = read_json(path) if path.suffix == ".json" else read_yaml(path)
    if not isinstance(values, dict):
        raise DatasetError(path, f"expected a mapping of keys to values, got {type(values).__name__}")
    with errors_naming(path):
        return parse(values, path.parent.name, classes)


def _camera(name: str, values: Mapping[str, Any], world_SE3_lidar: Float64) -> CameraCalibration:
    """Convert a camera. The entry `agent_SE3_camera`, which our writer adds, is exact, and there are right-handed cameras in it."""
    intrinsic = as_matrix(f"{name}: intrinsic", entry_of(name, values, "intrinsic"), (3, 3))
    if values.get("agent_SE3_camera") is not None:
        exact = as_matrix(f"{name}: agent_SE3_camera", values["agent_SE3_camera"], (4, 4))
        require_SE3(f"{name}: agent_SE3_camera", exact, may_mirror=True)
        return CameraCalibration(name, intrinsic, exact)
    world_SE3_camera = as_pose(f"{name}: cords", entry_of(name, values, "cords")) @ UNREAL_SE3_OPENCV
    return CameraCalibration(name, intrinsic, relative_SE3(world_SE3_lidar, world_SE3_camera))
