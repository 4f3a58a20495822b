"""Convert the labels of OPV2V and of DAIR-V2X-C to corners in the world frame."""

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
    """Convert the `vehicles` block of an OPV2V frame.

    Args:
        vehicles: id -> {location, center, extent (half sizes), angle (roll, yaw, pitch)}; metres and degrees, in world axes.

    Raises:
        KeyError: a vehicle without one of the four entries.
        ValueError: an entry that is not three finite numbers; the message names the vehicle.
    """
    if not vehicles:
        return ObjectLabels.empty()
    parts = [_opv2v_parts(key, value) for key, value in vehicles.items()]
    local = _corners(np.stack([size for size, _ in parts]))
    world_SE3_vehicles = np.stack([pose for _, pose in parts])
    corners = local @ world_SE3_vehicles[:, :3, :3].transpose(0, 2, 1) + world_SE3_vehicles[:, None, :3, 3]
    return ObjectLabels(np.array([int(key) for key in vehicles], np.int64), corners)


def _opv2v_parts(key: Any, vehicle: Mapping[str, Any]) -> tuple[Float64, Float64]:
    """Return a vehicle's box (7,) in its own frame, and its pose (4, 4)."""
    location, offset, half, angle = (
        as_vector(f"object {key}: {name}", vehicle[name], 3) for name in ("location", "center", "extent", "angle")
    )
    length, width, height = 2 * half
    return np.array([0, 0, 0, height, width, length, 0]), pose_to_SE3(np.concatenate([location + offset, angle]))


def dair_objects(entries: Sequence[Mapping[str, Any]], world_SE3_agent: Float64) -> ObjectLabels:
    """Convert the vehicles among the labels of one DAIR-V2X-C side, the vehicle's or the roadside unit's.

    Entries without a size are left out. The ids number all other entries, vehicles or not.

    Args:
        entries: {type, 3d_location {x, y, z}, 3d_dimensions {h, w, l}, rotation}: centre and yaw in the side's LiDAR frame.
        world_SE3_agent: (4, 4) the side's pose.

    Raises:
        KeyError: an entry without a location, a size or a rotation.
        ValueError: an entry whose numbers are not finite.
    """
    boxes = np.array([_dair_box(entry) for entry in entries]).reshape(-1, 7)
    sized = (boxes[:, 3:6] > 0).all(axis=1)
    ids = np.cumsum(sized) - 1
    keep = sized & np.array([_is_vehicle(entry) for entry in entries], bool)
    return ObjectLabels(ids[keep].astype(np.int64), transform_points(world_SE3_agent, _corners(boxes[keep])))


def dair_world_objects(entries: Sequence[Mapping[str, Any]]) -> ObjectLabels:
    """Convert the vehicles among DAIR-V2X-C's cooperative labels; the ids number all entries, vehicles or not.

    Args:
        entries: {type, world_8_points}: corners in world coordinates, in the order of `heal.detection.boxes`.

    Raises:
        KeyError: a vehicle without corners.
        ValueError: corners that are not (8, 3) finite numbers.
    """
    keep = [index for index, entry in enumerate(entries) if _is_vehicle(entry)]
    corners = [as_matrix(f"object {index}: world_8_points", entries[index]["world_8_points"], (8, 3)) for index in keep]
    return ObjectLabels(np.array(keep, np.int64), np.array(corners, np.float64).reshape(-1, 8, 3))


def _dair_box(entry: Mapping[str, Any]) -> Float64:
    """Return an entry's box (7,): centre, height, width, length, yaw."""
    location, size = entry["3d_location"], entry["3d_dimensions"]
    values = [location["x"], location["y"], location["z"], size["h"], size["w"], size["l"], entry["rotation"]]
    return as_vector("3d_location, 3d_dimensions, rotation", [float(value) for value in values], 7)


def _is_vehicle(entry: Mapping[str, Any]) -> bool:
    """Whether an entry is a vehicle. The cooperative labels of some releases name no type, because all of them are vehicles."""
    return str(entry.get("type", "car")).lower() in DAIR_VEHICLES


def _corners(boxes: Float64) -> Float64:
    corners: Float64 = boxes_to_corners(torch.from_numpy(boxes.astype(np.float64))).numpy()
    return corners
