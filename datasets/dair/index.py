"""Read the pairs of frames of a DAIR-V2X-C split from the split list and the data_info.json files; no other file is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path, PurePosixPath
from typing import Any

from heal.datasets.dataset import DatasetError, Skipped
from heal.datasets.files import errors_naming, read_json
from heal.datasets.notation import as_mapping, as_number, as_text, is_blank, short
from heal.datasets.split_names import NoSplitError, names_of

INNER_FOLDER = "cooperative-vehicle-infrastructure"
VEHICLE_SIDE, ROADSIDE_SIDE, COOPERATIVE = "vehicle-side", "infrastructure-side", "cooperative"
OFFICIAL_SPLIT = "cooperative-split-data.json"
# data_info.json names the label file in one of two ways, depending on the release.
LABEL_KEYS = ("label_lidar_path", "label_lidar_std_path")
INDEX_NAME = "data_info.json"


@dataclass(frozen=True)
class SideFrame:
    """Files of one side, the vehicle's or the roadside unit's, at one instant; paths are relative to the side's folder.

    Attributes:
        cloud: the LiDAR sweep.
        label: the side's own labels, in its LiDAR frame.
        poses: the calibrations whose product maps LiDAR coordinates into the world, the world's first.
        timestamp_ns: the time of the sweep; 0 if it is blank.
        camera: the camera image, its camera matrix, and its calibration to the LiDAR.
        no_camera: the reason why there is no camera, which matters to whoever asks for images; empty if there is one.
    """

    cloud: str
    label: str
    poses: tuple[str, ...]
    timestamp_ns: int
    camera: tuple[str, str, str] | None = None
    no_camera: str = ""


@dataclass(frozen=True)
class FramePair:
    """A vehicle frame and the roadside frame that belongs to it.

    Attributes:
        scene_id: batch and vehicle frame, such as "0/015372".
        batch: the recording.
        vehicle: the vehicle's files.
        roadside: the roadside unit's files.
        label: the file of the cooperative labels, relative to the cooperative folder.
        offset_m: x and y to be added to the roadside unit's position in the world.
    """

    scene_id: str
    batch: str
    vehicle: SideFrame
    roadside: SideFrame
    label: str
    offset_m: tuple[float, float]


def data_folder(root: Path) -> Path | None:
    """Return the folder with the two sides: `root` itself or the folder in it; None if there is none."""
    for folder in (root, root / INNER_FOLDER, root / INNER_FOLDER / INNER_FOLDER):
        if (folder / VEHICLE_SIDE).is_dir() and (folder / ROADSIDE_SIDE).is_dir():
            return folder
    return None


def read_dair_split(root: Path, split: str) -> list[str]:
    """Read the vehicle frame ids of a split.

    Args:
        root: the list lies in this folder, in its data folder, or beside the data folder.
        split: "train", "val", "test" or another list's name.

    Raises:
        NoSplitError: the list is missing; the message names the existing lists.
        DatasetError: the list is empty or damaged.
    """
    inner = data_folder(root) or root
    folders = list(dict.fromkeys((root, inner, inner.parent)))
    for path in (folder / f"{name}.json" for name in names_of(split) for folder in folders):
        if path.is_file():
            return _checked_frame_ids(path, read_json(path))
    for path in (folder / OFFICIAL_SPLIT for folder in folders):
        if path.is_file():
            with errors_naming(path):
                lists = as_mapping("cooperative_split", as_mapping("the file", read_json(path))["cooperative_split"])
                name = next((name for name in names_of(split) if name in lists), None)
                if name is None:
                    raise NoSplitError(path, f"no such split: {split}; there are {', '.join(map(str, lists))}")
                return _checked_frame_ids(path, lists[name])
    there = sorted({path.name for folder in folders for path in folder.glob("*.json")} - {"data_info.json"})
    raise NoSplitError(root / f"{split}.json", f"no such split list, nor {OFFICIAL_SPLIT}; there are: {', '.join(there) or 'none'}")


def index_files(folder: Path) -> tuple[Path, Path, Path]:
    """Return the paths of three lists: the vehicle's frames, the roadside unit's frames, and the pairs of both."""
    return folder / VEHICLE_SIDE / INDEX_NAME, folder / ROADSIDE_SIDE / INDEX_NAME, folder / COOPERATIVE / INDEX_NAME


def read_pairs(folder: Path, frame_ids: list[str]) -> tuple[list[FramePair], Skipped]:
    """Read the pairs of a split.

    Returns:
        The pairs in the order of `frame_ids`, each once, and the frames that are in the list but cannot be used, with the reason.
    """
    skipped: Skipped = []
    vehicle_file, roadside_file, path = index_files(folder)
    vehicle = _entries_by_frame(vehicle_file, "pointcloud_path", skipped)
    roadside = _entries_by_frame(roadside_file, "pointcloud_path", skipped)
    cooperative = _entries_by_frame(path, "vehicle_pointcloud_path", skipped)
    pairs: dict[str, FramePair] = {}
    for frame_id in frame_ids:
        key = _frame_key(frame_id)
        if key in pairs:
            skipped.append((frame_id, "listed twice in the split; it counts once"))
            continue
        try:
            pairs[key] = _frame_pair(key, cooperative, vehicle, roadside)
        except ValueError as error:
            skipped.append((frame_id, str(error)))
    return list(pairs.values()), skipped


@dataclass(frozen=True)
class _Entry:
    """An entry of a data_info.json; errors are ValueErrors that name the file and the key.

    Attributes:
        file: the file's name, such as "vehicle-side/data_info.json".
        values: the content.
    """

    file: str
    values: Mapping[str, Any]

    def text(self, key: str) -> str:
        """Return a value as text."""
        value = self.values.get(key)
        if is_blank(value):
            raise ValueError(f"{self.file}: no entry {key}")
        return as_text(f"{self.file}: {key}", value)

    def path(self, *keys: str) -> str:
        """Return the path that the first of `keys` gives that is there, relative to the folder of the file."""
        key = next((key for key in keys if key in self.values), keys[0])
        return _inside(self.text(key), PurePosixPath(self.file).parent.name)

    def frame(self, key: str) -> str:
        """Return the frame id: the file name of the cloud that `key` names, without its ending."""
        return PurePosixPath(self.path(key)).stem


def _frame_pair(key: str, cooperative: dict[str, _Entry], vehicle: dict[str, _Entry], roadside: dict[str, _Entry]) -> FramePair:
    """Return the pair of a vehicle frame; ValueError with the reason if there is none."""
    entry = _find(key, cooperative, f"not in {COOPERATIVE}/{INDEX_NAME}")
    roadside_id = entry.frame("infrastructure_pointcloud_path")
    own = _find(key, vehicle, f"not in {VEHICLE_SIDE}/{INDEX_NAME}")
    other = _find(_frame_key(roadside_id), roadside, f"its roadside frame {roadside_id} is not in {ROADSIDE_SIDE}/{INDEX_NAME}")
    batch = "0" if is_blank(own.values.get("batch_id")) else own.text("batch_id")
    return FramePair(
        scene_id=f"{batch}/{own.frame('pointcloud_path')}",
        batch=batch,
        vehicle=_side_frame(own, "calib_lidar_to_camera_path", "calib_novatel_to_world_path", "calib_lidar_to_novatel_path"),
        roadside=_side_frame(other, "calib_virtuallidar_to_camera_path", "calib_virtuallidar_to_world_path"),
        label=entry.path("cooperative_label_path"),
        offset_m=_offset(entry),
    )


def _find(key: str, entries: dict[str, _Entry], reason: str) -> _Entry:
    if key not in entries:
        raise ValueError(reason)
    return entries[key]


def _offset(entry: _Entry) -> tuple[float, float]:
    """Return `system_error_offset`; blanks are 0."""
    value, name = entry.values.get("system_error_offset"), f"{entry.file}: system_error_offset"
    offset = {} if is_blank(value) else as_mapping(name, value)
    return as_number(f"{name}: delta_x", offset.get("delta_x")), as_number(f"{name}: delta_y", offset.get("delta_y"))


def _side_frame(entry: _Entry, camera_key: str, *pose_keys: str) -> SideFrame:
    """Return the files of an entry of data_info.json; the names of some keys differ between the two sides."""
    camera, no_camera = None, ""
    try:
        camera = entry.path("image_path"), entry.path("calib_camera_intrinsic_path"), entry.path(camera_key)
    except ValueError as error:
        no_camera = str(error)
    return SideFrame(
        cloud=entry.path("pointcloud_path"),
        label=entry.path(*LABEL_KEYS),
        poses=tuple(entry.path(key) for key in pose_keys),
        timestamp_ns=_timestamp_ns(entry),
        camera=camera,
        no_camera=no_camera,
    )


def _timestamp_ns(entry: _Entry) -> int:
    """Return the time of the sweep, which is stored in microseconds; 0 for a blank."""
    value = entry.values.get("pointcloud_timestamp")
    if is_blank(value):
        return 0
    name = f"{entry.file}: pointcloud_timestamp"
    try:
        stamp_us = Decimal(str(value).strip())
    except InvalidOperation as error:
        raise ValueError(f"{name}: expected microseconds, got {short(value)}") from error
    if not (stamp_us.is_finite() and 0 <= stamp_us < 2**63 / 1000):
        raise ValueError(f"{name}: expected microseconds, got {short(value)}")
    return int(stamp_us * 1000)


def _entries_by_frame(path: Path, key: str, skipped: Skipped) -> dict[str, _Entry]:
    """Read a data_info.json by the frame of the cloud that `key` names; append entries without a frame to `skipped`.

    Raises:
        DatasetError: the file cannot be read, is no list, or no entry has a frame.
    """
    values = read_json(path)
    if not isinstance(values, list):
        raise DatasetError(path, f"expected a list of frames, got {type(values).__name__}")
    name = f"{path.parent.name}/{path.name}"
    entries: dict[str, _Entry] = {}
    bad: Skipped = []
    for number, value in enumerate(values):
        try:
            entry = _Entry(name, as_mapping(name, value))
            frame = entry.frame(key)
        except ValueError as error:
            bad.append((f"{name}, entry {number}", str(error).removeprefix(f"{name}: ")))
            continue
        if entries.setdefault(_frame_key(frame), entry).values != value:
            bad.append((f"{name}, entry {number}", f"frame {frame} is listed before with other values, which count"))
    if bad and not entries:
        raise DatasetError(path, f"no frame can be used; entry 0: {bad[0][1]}")
    skipped.extend(bad)
    return entries


def _frame_key(frame_id: str) -> str:
    """Return a frame id without leading zeros."""
    return frame_id.lstrip("0") or "0" if frame_id.isdecimal() else frame_id


def _inside(path: str, folder: str) -> str:
    """Return a path relative to the folder called `folder`, wherever that folder stands in the path; else the path itself."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    last = max((number for number, part in enumerate(parts) if part == folder), default=-1)
    return str(PurePosixPath(*parts[last + 1 :]))


def _checked_frame_ids(path: Path, values: Any) -> list[str]:
    if not isinstance(values, list):
        raise DatasetError(path, f'expected a list of vehicle frame ids such as "015372", got {short(values)}')
    if not values:
        raise DatasetError(path, "the split is empty")
    with errors_naming(path):
        return [as_text('expected a list of vehicle frame ids such as "015372"', value) for value in values]
