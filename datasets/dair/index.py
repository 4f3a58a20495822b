"""Which frames a DAIR-V2X-C split holds: split list and data_info.json files to pairs of frames, opening nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from heal.datasets.dataset import DatasetError
from heal.datasets.files import naming, read_json

INNER_FOLDER = "cooperative-vehicle-infrastructure"
VEHICLE_SIDE, ROADSIDE_SIDE, COOPERATIVE = "vehicle-side", "infrastructure-side", "cooperative"
OFFICIAL_SPLIT = "cooperative-split-data.json"
# data_info.json names the label file in one of two ways, depending on the release.
LABEL_KEYS = ("label_lidar_path", "label_lidar_std_path")

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class SideFrame:
    """Files of one side at one instant, as paths relative to the side's folder.

    Attributes:
        cloud: its LiDAR sweep.
        image: its picture.
        label: its own labels, in its LiDAR frame.
        intrinsic: its camera matrix.
        lidar_to_camera: its camera's calibration.
        poses: the calibrations that lead from its LiDAR to the world, the world's first.
        timestamp_ns: when the sweep was taken.
    """

    cloud: str
    image: str
    label: str
    intrinsic: str
    lidar_to_camera: str
    poses: tuple[str, ...]
    timestamp_ns: int


@dataclass(frozen=True)
class Pair:
    """A vehicle frame and the roadside frame that goes with it.

    Attributes:
        scene_id: batch and vehicle frame, such as "0/015372".
        batch: the recording.
        vehicle: the vehicle's files.
        roadside: the roadside unit's files.
        label: the cooperative labels, relative to the cooperative folder.
        offset_m: x and y to be added to the roadside unit's position in the world.
    """

    scene_id: str
    batch: str
    vehicle: SideFrame
    roadside: SideFrame
    label: str
    offset_m: tuple[float, float]


def data_folder(root: Path) -> Path | None:
    """The folder with the two sides: `root` itself or the one in it; None where there is none."""
    for folder in (root, root / INNER_FOLDER):
        if (folder / VEHICLE_SIDE).is_dir() and (folder / ROADSIDE_SIDE).is_dir():
            return folder
    return None


def read_split(root: Path, split: str) -> list[str]:
    """The vehicle frame ids of a split.

    Args:
        root: where the lists lie: here, in the data folder, or beside that.
        split: "train", "val" or "test"; "validate" is "val".

    Raises:
        DatasetError: no such list, or an empty one; the message names the lists that there are.
    """
    inner = data_folder(root) or root
    folders = list(dict.fromkeys((root, inner, inner.parent)))
    for path in (folder / f"{split}.json" for folder in folders):
        if path.is_file():
            return _ids(path, read_json(path))
    for path in (folder / OFFICIAL_SPLIT for folder in folders):
        if path.is_file():
            with naming(path):
                return _ids(path, read_json(path)["cooperative_split"][split])
    there = sorted({path.name for folder in folders for path in folder.glob("*.json")} - {"data_info.json"})
    raise DatasetError(root / f"{split}.json", f"no such split list, nor {OFFICIAL_SPLIT}; there are: {', '.join(there) or 'none'}")


def index_files(folder: Path) -> tuple[Path, Path, Path]:
    """The lists of frames: the vehicle's, the roadside unit's, and which of them go together."""
    name = "data_info.json"
    return folder / VEHICLE_SIDE / name, folder / ROADSIDE_SIDE / name, folder / COOPERATIVE / name


def read_pairs(folder: Path, frame_ids: list[str]) -> tuple[list[Pair], list[tuple[str, str]]]:
    """The pairs of a split in its order, and the frames that are in the list but not in the data."""
    vehicle_file, roadside_file, path = index_files(folder)
    vehicle = _by_id(vehicle_file, "pointcloud_path")
    roadside = _by_id(roadside_file, "pointcloud_path")
    cooperative = _by_id(path, "vehicle_pointcloud_path")
    pairs: list[Pair] = []
    skipped: list[tuple[str, str]] = []
    for frame_id in frame_ids:
        with naming(path):
            pair = _pair(frame_id, cooperative, vehicle, roadside)
        if isinstance(pair, Pair):
            pairs.append(pair)
        else:
            skipped.append((frame_id, pair))
    return pairs, skipped


def _pair(frame_id: str, cooperative: dict[str, Entry], vehicle: dict[str, Entry], roadside: dict[str, Entry]) -> Pair | str:
    """A pair, or why there is none."""
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
    return Pair(
        scene_id=f"{batch}/{frame_id}",
        batch=batch,
        vehicle=_side(
            vehicle[frame_id], "calib_lidar_to_camera_path", "calib_novatel_to_world_path", "calib_lidar_to_novatel_path"
        ),
        roadside=_side(roadside[roadside_id], "calib_virtuallidar_to_camera_path", "calib_virtuallidar_to_world_path"),
        label=str(PurePosixPath(entry["cooperative_label_path"]).relative_to(COOPERATIVE)),
        offset_m=(float(offset.get("delta_x", 0.0)), float(offset.get("delta_y", 0.0))),
    )


def _side(entry: Entry, camera_key: str, *pose_keys: str) -> SideFrame:
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


def _by_id(path: Path, key: str) -> dict[str, Entry]:
    entries = read_json(path)
    if not isinstance(entries, list):
        raise DatasetError(path, f"expected a list of frames, got {type(entries).__name__}")
    with naming(path):
        return {PurePosixPath(entry[key]).stem: entry for entry in entries}


def _ids(path: Path, values: Any) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise DatasetError(path, 'expected a list of vehicle frame ids such as "015372"')
    if not values:
        raise DatasetError(path, "the split is empty")
    return values
