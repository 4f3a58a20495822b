"""Read the metadata of one agent and frame of OPV2V: its pose, its cameras, and the objects labelled around it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from heal.datasets.dataset import DatasetError
from heal.datasets.files import as_matrix, as_vector, errors_naming, read_json, read_yaml
from heal.datasets.labels import opv2v_objects
from heal.se3 import pose_to_SE3, relative_SE3
from heal.types import Float64, ObjectLabels

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
    """

    world_SE3_lidar: Float64
    cameras: tuple[CameraCalibration, ...]
    objects: ObjectLabels
    roadside: bool


def metadata_path(stem: Path) -> Path:
    """Return the file that `read_metadata` reads."""
    path = stem.with_suffix(".json")
    return path if path.exists() else stem.with_suffix(".yaml")


def read_metadata(stem: Path) -> FrameMetadata:
    """Read `stem`.json, which is faster, or else `stem`.yaml; DatasetError if the file is missing or cannot be used."""
    path = metadata_path(stem)
    with errors_naming(path):
        changed = path.stat().st_mtime_ns
    return _read_cached(path, changed)


# A few kB each; training reads every file in every epoch, and YAML is slow.
@lru_cache(maxsize=4096)
def _read_cached(path: Path, changed_ns: int) -> FrameMetadata:
    """Read a file once for a scene's outline, frames and labels; a rewritten file has another `changed_ns` and is read again."""
    values = read_json(path) if path.suffix == ".json" else read_yaml(path)
    if not isinstance(values, dict):
        raise DatasetError(path, f"expected a mapping of keys to values, got {type(values).__name__}")
    with errors_naming(path):
        return parse_metadata(values)


def parse_metadata(values: Mapping[str, Any]) -> FrameMetadata:
    """Convert the content of a metadata file; KeyError for a missing entry, ValueError for an entry in another form."""
    world_SE3_lidar = pose_to_SE3(as_vector("lidar_pose", values["lidar_pose"], 6))
    names = sorted(key for key in values if CAMERA_NAME.fullmatch(str(key)))
    cameras = tuple(_camera(name, values[name], world_SE3_lidar) for name in names)
    return FrameMetadata(world_SE3_lidar, cameras, opv2v_objects(values.get("vehicles")), bool(values.get("RSU", False)))


def _camera(name: str, values: Mapping[str, Any], world_SE3_lidar: Float64) -> CameraCalibration:
    world_SE3_camera = pose_to_SE3(as_vector(f"{name}: cords", values["cords"], 6)) @ UNREAL_SE3_OPENCV
    intrinsic = as_matrix(f"{name}: intrinsic", values["intrinsic"], (3, 3))
    return CameraCalibration(name, intrinsic, relative_SE3(world_SE3_lidar, world_SE3_camera))
