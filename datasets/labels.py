"""Convert the labels of the data sets to corners in the world frame, and their types to classes.

Only objects of the wanted classes that have a size become labels; by default vehicles alone. Whatever else is listed is left out by
name, so that whoever opens a data set can say it.
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
from heal.detection.classes import VEHICLE, VEHICLES, Classes, class_number
from heal.se3 import pose_to_SE3, transform_points
from heal.types import BoolMask, Float64, Int64, ObjectLabels, require_shape

# The names that data sets have for each of `OBJECT_TYPES`, as letters and digits in lower case.
NAMES_OF_TYPES = {
    "car": "car vehicle suv sedan van minivan pickup pickuptruck taxi policecar ambulance emergencyvehicle",
    "truck": "truck lorry trailer longvehicle concretetruck firetruck semitruck boxtruck",
    "bus": "bus coach schoolbus",
    "cyclist": "cyclist bicycle bicyclist bicyclerider motorcycle motorcyclist motorcyclerider scooterrider tricyclist",
    "pedestrian": "pedestrian person walker",
}
TYPE_OF_NAME = {name: kind for kind, names in NAMES_OF_TYPES.items() for name in names.split()}
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
NO_CLASS = -1  # the class of labels that become no object


@lru_cache(maxsize=1024)
def class_of_name(name: str, classes: Classes = VEHICLES) -> int | None:
    """Return the class that a type's name means, in any case and with any punctuation; None for none of the classes."""
    return class_number(TYPE_OF_NAME.get("".join(letter for letter in name.lower() if letter.isalnum()), ""), classes)


def type_of_category(category: str) -> str:
    """Return the type that a dotted category means: one of nuScenes, such as "human.pedestrian.adult", or a blueprint of CARLA.

    The type of "human.pedestrian.adult" and of "walker.pedestrian.0001" is "pedestrian", that of "vehicle.bus.rigid" is "bus", and
    that of a make, such as "vehicle.audi.tt", is "vehicle" unless it has two wheels. A name without a dot is the type itself.
    """
    group, *parts = category.strip().lower().split(".")
    if not parts:
        return category.strip()
    two_wheeler = TWO_WHEELERS.get(".".join([group, *parts])) or TWO_WHEELERS.get(f"{group}.{parts[0]}")
    return two_wheeler or (parts[0] if group != "vehicle" or class_of_name(parts[0]) is not None else "vehicle")


def counted_text(left_out: Mapping[str, int]) -> str:
    """Return counts such as "2 Pedestrian, 1 Cyclist", the largest first."""
    return ", ".join(f"{count} {name}" for name, count in sorted(left_out.items(), key=lambda item: (-item[1], item[0])))


def posed_objects(
    ids: Int64, types: Sequence[str], world_SE3_objects: Float64, sizes_m: Float64, classes: Classes = VEHICLES
) -> ObjectLabels:
    """Convert labels that are given as poses and sizes; `kept_labels` tells which of them become objects.

    Args:
        ids: (N,) unique ids.
        types: N names of types.
        world_SE3_objects: (N, 4, 4) centre and axes: x along the length, y along the width, z up.
        sizes_m: (N, 3) length, width, height.
        classes: the classes of the objects that are wanted.

    Raises:
        ValueError: a place or a size of an object is so large that no corners come of it.
    """
    numbers = kept_labels(types, sizes_m, classes)[0]
    keep = numbers != NO_CLASS
    boxes = np.zeros((int(keep.sum()), 7))
    boxes[:, 3:6] = sizes_m[keep][:, ::-1]
    return _finite_labels(ids[keep], _placed(boxes, world_SE3_objects[keep]), numbers[keep])


def kept_labels(types: Sequence[str], sizes_m: Float64, classes: Classes = VEHICLES) -> tuple[Int64, Counter[str]]:
    """Tell which labels, given by types and sizes (N, 3), become objects, and count the others by type or as `WITHOUT_SIZE`.

    Returns:
        The class of each label (N,), `NO_CLASS` for those that become no object; and the counts of these.
    """
    numbers = _numbers([class_of_name(name, classes) for name in types])
    wanted, sized = numbers != NO_CLASS, _is_size(sizes_m)
    left_out = Counter(" ".join(name.split())[:40] for name, kept in zip(types, wanted, strict=True) if not kept)
    unsized = Counter({WITHOUT_SIZE: int((wanted & ~sized).sum())})
    return np.where(sized, numbers, NO_CLASS), left_out + unsized


def opv2v_objects(vehicles: Any) -> ObjectLabels:
    """Convert the `vehicles` block of an OPV2V frame; see `read_opv2v_objects`."""
    return read_opv2v_objects(vehicles)[0]


def read_opv2v_objects(vehicles: Any, classes: Classes = VEHICLES) -> tuple[ObjectLabels, Counter[str]]:
    """Convert the `vehicles` block of an OPV2V frame, and count what is left out, by type or as `WITHOUT_SIZE`.

    Args:
        vehicles: id -> {location, center, extent (half sizes), angle (roll, yaw, pitch)}; metres and degrees, in world axes. Also
            a list of such entries, each with an id. An entry without a type is a vehicle, of the type car.
        classes: the classes of the objects that are wanted.

    Raises:
        ValueError: an entry that is missing or is not three numbers, or an id that is no number or occurs twice.
    """
    left_out: Counter[str] = Counter()
    parts: dict[int, tuple[Float64, Float64, int]] = {}
    seen: set[int] = set()
    for key, vehicle in objects_with_ids(vehicles):
        object_id = as_id(f"object {short(key)}", key)
        if object_id in seen:
            raise ValueError(f"object {object_id}: expected each id once, it is listed twice")
        seen.add(object_id)
        name, number = _type_and_class(vehicle, classes)
        part = None if number is None else _opv2v_parts(object_id, vehicle)
        if number is None or part is None:
            left_out[name if number is None else WITHOUT_SIZE] += 1
        else:
            parts[object_id] = *part, number
    return _opv2v_labels(parts), left_out


def _opv2v_labels(parts: Mapping[int, tuple[Float64, Float64, int]]) -> ObjectLabels:
    """Make labels from the box, the pose and the class of each object."""
    if not parts:
        return ObjectLabels.empty()
    boxes, world_SE3_objects, numbers = (np.stack(values) for values in zip(*parts.values(), strict=True))
    return _finite_labels(np.array(list(parts), np.int64), _placed(boxes, world_SE3_objects), numbers)


def _placed(boxes: Float64, world_SE3_objects: Float64) -> Float64:
    """Return the corners (N, 8, 3) in the world of boxes (N, 7) that are given in the frames (N, 4, 4) of their objects."""
    corners: Float64 = boxes_to_corners(boxes) @ world_SE3_objects[:, :3, :3].transpose(0, 2, 1) + world_SE3_objects[:, None, :3, 3]
    return corners


def _finite_labels(ids: Int64, world_corners: Float64, numbers: Int64) -> ObjectLabels:
    """Return labels; ValueError for places and sizes so large that no corners come of them."""
    if not np.isfinite(world_corners).all():
        raise ValueError("expected objects in the world, got places or sizes whose corners are not finite")
    return ObjectLabels(ids, world_corners, numbers)


def _numbers(classes: Iterable[int | None]) -> Int64:
    """Return numbers of classes as an array (N,), with `NO_CLASS` for None."""
    return np.array([NO_CLASS if number is None else number for number in classes], np.int64)


def objects_with_ids(vehicles: Any) -> Iterable[tuple[Any, Mapping[Any, Any]]]:
    """Return the ids and the entries of a `vehicles` block, a mapping or a list."""
    if isinstance(vehicles, Mapping):
        return [(key, as_mapping(f"object {short(key)}", value)) for key, value in vehicles.items()]
    if isinstance(vehicles, list | tuple):
        entries = as_mappings("object", vehicles)
        return [(entry_of(f"object {index}", entry, "id"), entry) for index, entry in enumerate(entries)]
    raise ValueError(f"vehicles: expected a mapping of ids to objects, or a list of objects with an id, got {short(vehicles)}")


def _type_and_class(entry: Mapping[Any, Any], classes: Classes) -> tuple[str, int | None]:
    """Return the name of an entry's type, "vehicle" if it names none, and its class; None for none of the classes."""
    name = next((entry[key] for key in TYPE_KEYS if not is_blank(entry.get(key))), None)
    if name is None:
        blueprint = str(entry.get(BLUEPRINT_KEY) or "")
        name = blueprint.split(".")[0] if "." in blueprint else VEHICLE
    text = " ".join(str(name).split())[:40]
    return text, class_of_name(text, classes)


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


def dair_objects(entries: Sequence[Mapping[str, Any]], world_SE3_agent: Float64, classes: Classes = VEHICLES) -> ObjectLabels:
    """Convert the objects of some classes among the labels of one DAIR-V2X-C side, the vehicle's or the roadside unit's.

    Entries without a size are left out. The ids number all other entries, of any type.

    Args:
        entries: {type, 3d_location {x, y, z}, 3d_dimensions {h, w, l}, rotation}: centre and yaw in the side's LiDAR frame.
        world_SE3_agent: (4, 4) the side's pose.
        classes: the classes of the objects that are wanted.

    Raises:
        ValueError: an entry without a location, a size or a rotation, or whose place or rotation is not finite.
    """
    entries = as_mappings("object", entries)
    boxes = np.array([_dair_box(f"object {index}", entry) for index, entry in enumerate(entries)]).reshape(-1, 7)
    sized = _is_size(boxes[:, 3:6])
    ids = np.cumsum(sized) - 1
    numbers = _classes_of(entries, classes)
    keep = sized & (numbers != NO_CLASS)
    corners = transform_points(world_SE3_agent, boxes_to_corners(boxes[keep]))
    return _finite_labels(ids[keep].astype(np.int64), corners, numbers[keep])


def dair_world_objects(entries: Sequence[Mapping[str, Any]], classes: Classes = VEHICLES) -> ObjectLabels:
    """Convert the objects of some classes with a size among DAIR-V2X-C's cooperative labels; the ids number all entries.

    Args:
        entries: {type, world_8_points}: corners in world coordinates, in the order of `heal.box_corners`.
        classes: the classes of the objects that are wanted.

    Raises:
        ValueError: an object without corners, or corners that are not (8, 3) numbers.
    """
    entries = as_mappings("object", entries)
    numbers = _classes_of(entries, classes)
    keep = np.flatnonzero(numbers != NO_CLASS)
    corners = _world_corners(entries, keep)
    sized = _is_size(_edges(corners))
    return ObjectLabels(keep[sized], corners[sized], numbers[keep][sized])


def dair_left_out(values: Any, classes: Classes = VEHICLES) -> Counter[str]:
    """Count the entries of a label file of DAIR-V2X-C, a side's or the cooperative one, that become no object of some classes.

    Raises:
        ValueError: see `dair_objects` and `dair_world_objects`.
    """
    entries = as_mappings("object", values)
    named = [_type_and_class(entry, classes) for entry in entries]
    left_out = Counter(name for name, number in named if number is None)
    wanted = np.flatnonzero(_numbers(number for _, number in named) != NO_CLASS)
    if any("world_8_points" in entry for entry in entries):
        sized = _is_size(_edges(_world_corners(entries, wanted)))
    else:
        boxes = [_dair_size(f"object {index}", entry) for index, entry in enumerate(entries)]
        sized = _is_size(np.array(boxes).reshape(-1, 3))[wanted]
    return left_out + Counter({WITHOUT_SIZE: int((~sized).sum())})


def _world_corners(entries: Sequence[Mapping[Any, Any]], wanted: Int64) -> Float64:
    """Return the corners (N, 8, 3), finite or not, of N entries among cooperative labels, given by their indices."""
    corners = np.empty((len(wanted), 8, 3))
    for row, index in enumerate(wanted.tolist()):
        name = f"object {index}: world_8_points"
        points = entry_of(f"object {index}", entries[index], "world_8_points")
        try:
            given = np.asarray(points, np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{name}: expected numbers in shape (8, 3), got {short(points)}") from error
        require_shape(name, given, (8, 3))
        corners[row] = given
    return corners


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


def _classes_of(entries: Sequence[Mapping[Any, Any]], classes: Classes) -> Int64:
    """Return the classes (N,) of entries. The cooperative labels of some releases name no type, because all are vehicles."""
    return _numbers(_type_and_class(entry, classes)[1] for entry in entries)


def _is_size(sizes: Float64) -> BoolMask:
    """Tell whether the last axis (..., 3) holds three positive, finite lengths."""
    return np.asarray((np.isfinite(sizes) & (sizes > 0)).all(axis=-1), bool)
