"""Convert the labels of the data sets to corners in the world frame.

Only vehicles with a size become objects. Whatever else is listed is left out by name, so that whoever opens a data set can say it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from heal.box_corners import boxes_to_corners
from heal.datasets.notation import (
    as_any_vector,
    as_id,
    as_mapping,
    as_mappings,
    as_vector,
    entry_of,
    is_blank,
    short,
)
from heal.se3 import pose_to_SE3, transform_points
from heal.types import BoolMask, Float64, Int64, ObjectLabels, require_shape

# Names of vehicles, as letters and digits in lower case.
VEHICLE_NAMES = frozenset(
    {"car", "van", "truck", "bus", "vehicle", "suv", "pickup", "trailer", "longvehicle", "concretetruck", "taxi", "policecar"}
    | {"ambulance", "firetruck", "sedan", "minivan", "lorry", "pickuptruck", "coach", "schoolbus", "semitruck", "boxtruck"}
    | {"emergencyvehicle"}
)
# Blueprints of CARLA that are called "vehicle.*" and have two wheels.
TWO_WHEELERS = {
    **dict.fromkeys(("vehicle.bh.crossbike", "vehicle.diamondback.century", "vehicle.gazelle.omafiets"), "bicycle"),
    **dict.fromkeys(("vehicle.harley-davidson.low_rider", "vehicle.kawasaki.ninja"), "motorcycle"),
    **dict.fromkeys(("vehicle.yamaha.yzf", "vehicle.vespa.zx125", "vehicle.motorcycle", "vehicle.motorbike"), "motorcycle"),
    "vehicle.bicycle": "bicycle",
}
TYPE_KEYS = ("obj_type", "type", "class", "category")
BLUEPRINT_KEY = "bp_id"  # a blueprint of CARLA, such as "vehicle.lincoln.mkz" or "walker.pedestrian.0001"
WITHOUT_SIZE = "without a size"


@lru_cache(maxsize=1024)
def is_vehicle_name(name: str) -> bool:
    """Whether a type's name means a vehicle, in any case and with any punctuation."""
    return "".join(letter for letter in name.lower() if letter.isalnum()) in VEHICLE_NAMES


def type_of_category(category: str) -> str:
    """Return the type that a dotted category means: one of nuScenes, such as "human.pedestrian.adult", or a blueprint of CARLA.

    The type of "human.pedestrian.adult" and of "walker.pedestrian.0001" is "pedestrian", that of "vehicle.bus.rigid" is "bus", and
    that of a make, such as "vehicle.audi.tt", is "vehicle" unless it has two wheels. A name without a dot is the type itself.
    """
    group, *parts = category.strip().lower().split(".")
    if not parts:
        return category.strip()
    two_wheeler = TWO_WHEELERS.get(".".join([group, *parts])) or TWO_WHEELERS.get(f"{group}.{parts[0]}")
    return two_wheeler or (parts[0] if group != "vehicle" or is_vehicle_name(parts[0]) else "vehicle")


def counted_text(left_out: Mapping[str, int]) -> str:
    """Return counts such as "2 Pedestrian, 1 Cyclist", the largest first."""
    return ", ".join(f"{count} {name}" for name, count in sorted(left_out.items(), key=lambda item: (-item[1], item[0])))


def posed_objects(ids: Int64, types: Sequence[str], world_SE3_objects: Float64, sizes_m: Float64) -> ObjectLabels:
    """Convert labels that are given as poses and sizes; `kept_labels` tells which of them become objects.

    Args:
        ids: (N,) unique ids.
        types: N names of types.
        world_SE3_objects: (N, 4, 4) centre and axes: x along the length, y along the width, z up.
        sizes_m: (N, 3) length, width, height.

    Raises:
        ValueError: a place or a size of an object is so large that no corners come of it.
    """
    keep = kept_labels(types, sizes_m)[0]
    boxes = np.zeros((int(keep.sum()), 7))
    boxes[:, 3:6] = sizes_m[keep][:, ::-1]
    return _finite_labels(ids[keep], _placed(boxes, world_SE3_objects[keep]))


def kept_labels(types: Sequence[str], sizes_m: Float64) -> tuple[BoolMask, Counter[str]]:
    """Tell which labels, given by types and sizes (N, 3), become objects, and count the others by type or as `WITHOUT_SIZE`."""
    vehicles = np.array([is_vehicle_name(name) for name in types], bool)
    sized = _is_size(sizes_m)
    left_out = Counter(" ".join(name.split())[:40] for name, vehicle in zip(types, vehicles, strict=True) if not vehicle)
    unsized = Counter({WITHOUT_SIZE: int((vehicles & ~sized).sum())})
    return vehicles & sized, left_out + unsized


def opv2v_objects(vehicles: Any) -> ObjectLabels:
    """Convert the `vehicles` block of an OPV2V frame; see `read_opv2v_objects`."""
    return read_opv2v_objects(vehicles)[0]


def read_opv2v_objects(vehicles: Any) -> tuple[ObjectLabels, Counter[str]]:
    """Convert the `vehicles` block of an OPV2V frame, and count what is left out, by type or as `WITHOUT_SIZE`.

    Args:
        vehicles: id -> {location, center, extent (half sizes), angle (roll, yaw, pitch)}; metres and degrees, in world axes. Also
            a list of such entries, each with an id. An entry without a type is a vehicle.

    Raises:
        ValueError: an entry that is missing or is not three numbers, or an id that is no number or occurs twice.
    """
    left_out: Counter[str] = Counter()
    parts: dict[int, tuple[Float64, Float64]] = {}
    seen: set[int] = set()
    for key, vehicle in objects_with_ids(vehicles):
        object_id = as_id(f"object {short(key)}", key)
        if object_id in seen:
            raise ValueError(f"object {object_id}: expected each id once, it is listed twice")
        seen.add(object_id)
        kind = _other_type(vehicle)
        part = None if kind else _opv2v_parts(object_id, vehicle)
        if part is None:
            left_out[kind or WITHOUT_SIZE] += 1
        else:
            parts[object_id] = part
    return _opv2v_labels(parts), left_out


def _opv2v_labels(parts: Mapping[int, tuple[Float64, Float64]]) -> ObjectLabels:
    """Make labels from the box and the pose of each object."""
    if not parts:
        return ObjectLabels.empty()
    boxes, world_SE3_vehicles = np.stack([size for size, _ in parts.values()]), np.stack([pose for _, pose in parts.values()])
    return _finite_labels(np.array(list(parts), np.int64), _placed(boxes, world_SE3_vehicles))


def _placed(boxes: Float64, world_SE3_objects: Float64) -> Float64:
    """Return the corners (N, 8, 3) in the world of boxes (N, 7) that are given in the frames (N, 4, 4) of their objects."""
    corners: Float64 = boxes_to_corners(boxes) @ world_SE3_objects[:, :3, :3].transpose(0, 2, 1) + world_SE3_objects[:, None, :3, 3]
    return corners


def _finite_labels(ids: Int64, world_corners: Float64) -> ObjectLabels:
    """Return labels; ValueError for places and sizes so large that no corners come of them."""
    if not np.isfinite(world_corners).all():
        raise ValueError("expected objects in the world, got places or sizes whose corners are not finite")
    return ObjectLabels(ids, world_corners)


def objects_with_ids(vehicles: Any) -> Iterable[tuple[Any, Mapping[Any, Any]]]:
    """Return the ids and the entries of a `vehicles` block, a mapping or a list."""
    if isinstance(vehicles, Mapping):
        return [(key, as_mapping(f"object {short(key)}", value)) for key, value in vehicles.items()]
    if isinstance(vehicles, list | tuple):
        entries = as_mappings("object", vehicles)
        return [(entry_of(f"object {index}", entry, "id"), entry) for index, entry in enumerate(entries)]
    raise ValueError(f"vehicles: expected a mapping of ids to objects, or a list of objects with an id, got {short(vehicles)}")


def _other_type(entry: Mapping[Any, Any]) -> str | None:
    """Return the type of an entry that is no vehicle; None for a vehicle, or for an entry that names no type."""
    name = next((entry[key] for key in TYPE_KEYS if not is_blank(entry.get(key))), None)
    if name is None:
        blueprint = str(entry.get(BLUEPRINT_KEY) or "")
        name = blueprint.split(".")[0] if "." in blueprint else "vehicle"
    text = " ".join(str(name).split())[:40]
    return None if is_vehicle_name(text) else text


def _opv2v_parts(key: int, vehicle: Mapping[Any, Any]) -> tuple[Float64, Float64] | None:
    """Return a vehicle's box (7,) in its own frame, and its pose (4, 4); None for an object without a size."""
    name = f"object {key}"
    location, offset, angle = (
        as_vector(f"{name}: {part}", entry_of(name, vehicle, part), 3) for part in ("location", "center", "angle")
    )
    half = as_any_vector(f"{name}: extent", entry_of(name, vehicle, "extent"), 3)
    if not _is_size(half):
        return None
    length, width, height = 2 * half
    return np.array([0, 0, 0, height, width, length, 0]), pose_to_SE3(np.concatenate([location + offset, angle]))


def dair_objects(entries: Sequence[Mapping[str, Any]], world_SE3_agent: Float64) -> ObjectLabels:
    """Convert the vehicles among the labels of one DAIR-V2X-C side, the vehicle's or the roadside unit's.

    Entries without a size are left out. The ids number all other entries, vehicles or not.

    Args:
        entries: {type, 3d_location {x, y, z}, 3d_dimensions {h, w, l}, rotation}: centre and yaw in the side's LiDAR frame.
        world_SE3_agent: (4, 4) the side's pose.

    Raises:
        ValueError: an entry without a location, a size or a rotation, or whose place or rotation is not finite.
    """
    entries = as_mappings("object", entries)
    boxes = np.array([_dair_box(f"object {index}", entry) for index, entry in enumerate(entries)]).reshape(-1, 7)
    sized = _is_size(boxes[:, 3:6])
    ids = np.cumsum(sized) - 1
    keep = sized & _are_vehicles(entries)
    return _finite_labels(ids[keep].astype(np.int64), transform_points(world_SE3_agent, boxes_to_corners(boxes[keep])))


def dair_world_objects(entries: Sequence[Mapping[str, Any]]) -> ObjectLabels:
    """Convert the vehicles with a size among DAIR-V2X-C's cooperative labels; the ids number all entries.

    Args:
        entries: {type, world_8_points}: corners in world coordinates, in the order of `heal.box_corners`.

    Raises:
        ValueError: a vehicle without corners, or corners that are not (8, 3) numbers.
    """
    keep, corners = _world_corners(as_mappings("object", entries))
    sized = _is_size(_edges(corners))
    return ObjectLabels(keep[sized], corners[sized])


def dair_left_out(values: Any) -> Counter[str]:
    """Count the entries of a label file of DAIR-V2X-C, a side's or the cooperative one, that become no object.

    Raises:
        ValueError: see `dair_objects` and `dair_world_objects`.
    """
    entries = as_mappings("object", values)
    left_out = Counter(kind for entry in entries if (kind := _other_type(entry)))
    if any("world_8_points" in entry for entry in entries):
        sized = _is_size(_edges(_world_corners(entries)[1]))
    else:
        boxes = [_dair_size(f"object {index}", entry) for index, entry in enumerate(entries)]
        sized = _is_size(np.array(boxes).reshape(-1, 3))[_are_vehicles(entries)]
    return left_out + Counter({WITHOUT_SIZE: int((~sized).sum())})


def _world_corners(entries: Sequence[Mapping[Any, Any]]) -> tuple[Int64, Float64]:
    """Return the numbers (N,) of the vehicles among cooperative labels, and their corners (N, 8, 3), finite or not."""
    keep = [index for index, entry in enumerate(entries) if _other_type(entry) is None]
    corners = np.empty((len(keep), 8, 3))
    for row, index in enumerate(keep):
        name = f"object {index}: world_8_points"
        points = entry_of(f"object {index}", entries[index], "world_8_points")
        try:
            given = np.asarray(points, np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{name}: expected numbers in shape (8, 3), got {short(points)}") from error
        require_shape(name, given, (8, 3))
        corners[row] = given
    return np.array(keep, np.int64), corners


def _edges(corners: Float64) -> Float64:
    """Return the lengths (N, 3) of three edges of boxes (N, 8, 3), one of each direction; NaN if any corner is not finite."""
    with np.errstate(all="ignore"):
        lengths: Float64 = np.linalg.norm(corners[:, [0, 1, 4]] - corners[:, [3, 0, 0]], axis=2)
    lengths[~np.isfinite(corners).all(axis=(1, 2))] = np.nan
    return lengths


def _dair_box(name: str, entry: Mapping[Any, Any]) -> Float64:
    """Return an entry's box (7,): centre, height, width, length, yaw; the sizes may be not finite."""
    location = as_mapping(f"{name}: 3d_location", entry_of(name, entry, "3d_location"))
    place = [entry_of(f"{name}: 3d_location", location, axis) for axis in "xyz"]
    turned = as_vector(f"{name}: 3d_location, rotation", [*place, entry_of(name, entry, "rotation")], 4)
    return np.concatenate([turned[:3], _dair_size(name, entry), turned[3:]])


def _dair_size(name: str, entry: Mapping[Any, Any]) -> Float64:
    """Return an entry's height, width and length; a blank is 0."""
    size = as_mapping(f"{name}: 3d_dimensions", entry_of(name, entry, "3d_dimensions"))
    values = [entry_of(f"{name}: 3d_dimensions", size, key) for key in "hwl"]
    return as_any_vector(f"{name}: 3d_dimensions", [0.0 if is_blank(value) else value for value in values], 3)


def _are_vehicles(entries: Sequence[Mapping[Any, Any]]) -> BoolMask:
    """Tell which entries are vehicles. The cooperative labels of some releases name no type, because all of them are vehicles."""
    return np.array([_other_type(entry) is None for entry in entries], bool)


def _is_size(sizes: Float64) -> BoolMask:
    """Tell whether the last axis (..., 3) holds three positive, finite lengths."""
    return np.asarray((np.isfinite(sizes) & (sizes > 0)).all(axis=-1), bool)
