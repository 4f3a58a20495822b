"""Read the pairs of frames of a DAIR-V2X-C split from the split list and the data_info.json files; no other file is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from heal.datasets.dataset import DatasetError, Skipped
from heal.datasets.files import errors_naming, read_json

INNER_FOLDER = "cooperative-vehicle-infrastructure"
VEHICLE_SIDE, ROADSIDE_SIDE, COOPERATIVE = "vehicle-side", "infrastructure-side", "cooperative"
OFFICIAL_SPLIT = "cooperative-split-data.json"
# data_info.json names the label file in one of two ways, depending on the release.
LABEL_KEYS = ("label_lidar_path", "label_lidar_std_path")

JsonEntry = Mapping[str, Any]


@dataclass(frozen=True)
class SideFrame:
    """Files of one side, the vehicle's or the roadside unit's, at one instant; paths are relative to the side's folder.

    Attributes:
        cloud: the LiDAR sweep.
        image: the camera image.
        label: the side's own labels, in its LiDAR frame.
        intrinsic: the camera matrix.
        lidar_to_camera: the camera's calibration.
        poses: the calibrations whose product maps LiDAR coordinates into the world, the world's first.
        timestamp_ns: the time of the sweep.
    """

    cloud: str
    image: str
    label: str
    intrinsic: str
    lidar_to_camera: str
    poses: tuple[str, ...]
    timestamp_ns: int


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
    for folder in (root, root / INNER_FOLDER):
        if (folder / VEHICLE_SIDE).is_dir() and (folder / ROADSIDE_SIDE).is_dir():
            return folder
    return None


def read_dair_split(root: Path, split: str) -> list[str]:
    """Read the vehicle frame ids of a split.

    Args:
        root: the list lies in this folder, in its data folder, or beside the data folder.
        split: "train", "val", "test" or another list's name.

    Raises:
        DatasetError: the list is missing or empty; the message names the existing lists.
    """
    inner = data_folder(root) or root
    folders = list(dict.fromkeys((root, inner, inner.parent)))
    for path in (folder / f"{split}.json" for folder in folders):
        if path.is_file():
            return _checked_frame_ids(path, read_json(path))
    for path in (folder / OFFICIAL_SPLIT for folder in folders):
        if path.is_file():
            with errors_naming(path):
                return _checked_frame_ids(path, read_json(path)["cooperative_split"][split])
    there = sorted({path.name for folder in folders for path in folder.glob("*.json")} - {"data_info.json"})
    raise DatasetError(root / f"{split}.json", f"no such split list, nor {OFFICIAL_SPLIT}; there are: {', '.join(there) or 'none'}")


def index_files(folder: Path) -> tuple[Path, Path, Path]:
    """Return the paths of three lists: the vehicle's frames, the roadside unit's frames, and the pairs of both."""
    name = "data_info.json"
    return folder / VEHICLE_SIDE / name, folder / ROADSIDE_SIDE / name, folder / COOPERATIVE / name


def read_pairs(folder: Path, frame_ids: list[str]) -> tuple[list[FramePair], Skipped]:
    """Read the pairs of a split.

    Returns:
        The pairs in the order of `frame_ids`, and the frames that are in the list but not in the data.
    """
    vehicle_file, roadside_file, path = index_files(folder)
    vehicle = _entries_by_frame_id(vehicle_file, "pointcloud_path")
    roadside = _entries_by_frame_id(roadside_file, "pointcloud_path")
    cooperative = _entries_by_frame_id(path, "vehicle_pointcloud_path")
    pairs: list[FramePair] = []
    skipped: Skipped = []
    for frame_id in frame_ids:
        with errors_naming(path):
            pair = _frame_pair(frame_id, cooperative, vehicle, roadside)
        if isinstance(pair, FramePair):
            pairs.append(pair)
        else:
            skipped.append((frame_id, pair))
    return pairs, skipped


def _frame_pair(
    frame_id: str, cooperative: dict[str, JsonEntry], vehicle: dict[str, JsonEntry], roadside: dict[str, JsonEntry]
) -> FramePair | str:
    """Return the pair of a vehicle frame, or the reason why there is none."""
    entry = cooperative.get(frame_id)
    if entry is None:
        return "not in cooperative/data_info.json"
    roadside_id = PurePosixPath(entry["infrastructure_pointcloud_path"]).stem
    if frame_id not in vehicle:
        return "not in vehicle-side/data_info.json"
    if roadside_id not in roadside:
        return f"its roadside frame {roadside_id} is not in infrastructure-side/data_info.json"
    offset = entry.get("system_error_offset") or {}
    batch = str(vehicle[frame_id].get("batch_id", "0"))
    return FramePair(
        scene_id=f"{batch}/{frame_id}",
        batch=batch,
        vehicle=_side_frame(
            vehicle[frame_id], "calib_lidar_to_camera_path", "calib_novatel_to_world_path", "calib_lidar_to_novatel_path"
        ),
        roadside=_side_frame(roadside[roadside_id], "calib_virtuallidar_to_camera_path", "calib_virtuallidar_to_world_path"),
        label=str(PurePosixPath(entry["cooperative_label_path"]).relative_to(COOPERATIVE)),
        offset_m=(float(offset.get("delta_x", 0.0)), float(offset.get("delta_y", 0.0))),
    )


def _side_frame(entry: JsonEntry, camera_key: str, *pose_keys: str) -> SideFrame:
    """Return the files of an entry of data_info.json; the names of some keys differ between the two sides."""
    label = next((entry[key] for key in LABEL_KEYS if key in entry), None)
    if label is None:
        raise ValueError(f"{entry['pointcloud_path']}: expected one of the keys {', '.join(LABEL_KEYS)}")
    return SideFrame(
        cloud=entry["pointcloud_path"],
        image=entry["image_path"],
        label=label,
        intrinsic=entry["calib_camera_intrinsic_path"],
        lidar_to_camera=entry[camera_key],
        poses=tuple(entry[key] for key in pose_keys),
        timestamp_ns=int(entry["pointcloud_timestamp"]) * 1000,  # stored in microseconds
    )


def _entries_by_frame_id(path: Path, key: str) -> dict[str, JsonEntry]:
    """Read a data_info.json; the frame id is the file name of the cloud that `key` names, without its ending."""
    entries = read_json(path)
    if not isinstance(entries, list):
        raise DatasetError(path, f"expected a list of frames, got {type(entries).__name__}")
    with errors_naming(path):
        return {PurePosixPath(entry[key]).stem: entry for entry in entries}


def _checked_frame_ids(path: Path, values: Any) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise DatasetError(path, 'expected a list of vehicle frame ids such as "015372"')
    if not values:
        raise DatasetError(path, "the split is empty")
    return values
