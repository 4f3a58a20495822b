"""Labels as the data sets write them, to world corners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from heal.datasets.files import as_matrix, as_vector
from heal.detection.boxes import boxes_to_corners
from heal.se3 import pose_to_SE3, transform_points
from heal.types import Float64, ObjectLabels

DAIR_VEHICLES = frozenset({"car", "van", "truck", "bus"})


def opv2v_objects(vehicles: Mapping[Any, Any] | None) -> ObjectLabels:
    """The `vehicles` block of an OPV2V frame.

    Args:
        vehicles: id -> {location, center, extent (half sizes), angle (roll, yaw, pitch)}; metres and degrees, in world axes.

    Raises:
        ValueError, KeyError: saying which object lacks what.
    """
    if not vehicles:
        return ObjectLabels.empty()
    parts = [_opv2v_parts(key, value) for key, value in vehicles.items()]
    local = _corners(np.stack([size for size, _ in parts]))
    world_SE3_vehicles = np.stack([pose for _, pose in parts])
    corners = local @ world_SE3_vehicles[:, :3, :3].transpose(0, 2, 1) + world_SE3_vehicles[:, None, :3, 3]
    return ObjectLabels(np.array([int(key) for key in vehicles], np.int64), corners)


def _opv2v_parts(key: Any, vehicle: Mapping[str, Any]) -> tuple[Float64, Float64]:
    """A vehicle's box (7,) in its own frame, and its pose (4, 4)."""
    where, offset, half, angle = (
        as_vector(f"object {key}: {name}", vehicle[name], 3) for name in ("location", "center", "extent", "angle")
    )
    length, width, height = 2 * half
    return np.array([0, 0, 0, height, width, length, 0]), pose_to_SE3(np.concatenate([where + offset, angle]))


def dair_objects(entries: Sequence[Mapping[str, Any]], world_SE3_agent: Float64) -> ObjectLabels:
    """The vehicles among the labels of one DAIR side.

    Objects without a size are no objects; ids count the others, vehicles or not.

    Args:
        entries: {type, 3d_location {x, y, z}, 3d_dimensions {h, w, l}, rotation}: centre and yaw in the side's LiDAR frame.
        world_SE3_agent: (4, 4) the side's pose.
    """
    boxes = np.array([_dair_box(entry) for entry in entries]).reshape(-1, 7)
    sized = (boxes[:, 3:6] > 0).all(axis=1)
    ids = np.cumsum(sized) - 1
    keep = sized & np.array([_is_vehicle(entry) for entry in entries], bool)
    return ObjectLabels(ids[keep].astype(np.int64), transform_points(world_SE3_agent, _corners(boxes[keep])))


def dair_world_objects(entries: Sequence[Mapping[str, Any]]) -> ObjectLabels:
    """The vehicles among DAIR's cooperative labels.

    Args:
        entries: {type, world_8_points}: corners in world coordinates, in the order of `heal.detection.boxes`; ids count all entries.
    """
    keep = [index for index, entry in enumerate(entries) if _is_vehicle(entry)]
    corners = [as_matrix(f"object {index}: world_8_points", entries[index]["world_8_points"], (8, 3)) for index in keep]
    return ObjectLabels(np.array(keep, np.int64), np.array(corners, np.float64).reshape(-1, 8, 3))


def _dair_box(entry: Mapping[str, Any]) -> Float64:
    where, size = entry["3d_location"], entry["3d_dimensions"]
    values = [where["x"], where["y"], where["z"], size["h"], size["w"], size["l"], entry["rotation"]]
    return as_vector("3d_location, 3d_dimensions, rotation", [float(value) for value in values], 7)


def _is_vehicle(entry: Mapping[str, Any]) -> bool:
    """Cooperative labels of some releases name no type: they are vehicles throughout."""
    return str(entry.get("type", "car")).lower() in DAIR_VEHICLES


def _corners(boxes: Float64) -> Float64:
    corners: Float64 = boxes_to_corners(torch.from_numpy(boxes.astype(np.float64))).numpy()
    return corners
