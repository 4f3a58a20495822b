"""A small folder tree in DAIR-V2X-C's layout, for the tests of its reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from heal.datasets.pcd import write_pcd

INNER = "cooperative-vehicle-infrastructure"
NO_TURN = np.eye(3).tolist()


def write_json(path: Path, values: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values), encoding="utf-8")


def rigid(x: float, y: float, z: float, yaw_deg: float = 0.0) -> dict[str, Any]:
    """A calibration: turn by yaw, then move."""
    c, s = np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))
    return {"rotation": [[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]], "translation": [[x], [y], [z]]}


def label(kind: str, x: float, y: float, length: float = 4.0) -> dict[str, Any]:
    """A box of 4.0 x 2.0 x 1.5 m; some numbers are text, as in the published files."""
    return {
        "type": kind,
        "3d_location": {"x": str(x), "y": str(y), "z": "-1.0"},
        "3d_dimensions": {"h": 1.5, "w": 2.0, "l": length},
        "rotation": 0.0,
    }


def world_label(kind: str, x: float, y: float) -> dict[str, Any]:
    """The eight corners of the same box in the world."""
    planar = [(2, -1), (2, 1), (-2, 1), (-2, -1)]
    return {"type": kind, "world_8_points": [[x + dx, y + dy, z] for z in (0.0, 1.5) for dx, dy in planar]}


def write_pair(root: Path, frame_id: str, roadside_id: str, label_key: str = "label_lidar_path") -> None:
    """Write a vehicle at (1000, 2000), turned by 90 degrees, and a roadside unit at (1010, 2000), turned by 180."""
    inner = root / INNER
    write_side(inner / "vehicle-side", frame_id, "lidar", label_key, rigid(1000, 2000, 1, 60), rigid(0, 0, 1, 30))
    write_side(inner / "infrastructure-side", roadside_id, "virtuallidar", label_key, rigid(1009, 1999, 7, 180), None)
    cooperative = {
        "infrastructure_pointcloud_path": f"infrastructure-side/velodyne/{roadside_id}.pcd",
        "vehicle_pointcloud_path": f"vehicle-side/velodyne/{frame_id}.pcd",
        "cooperative_label_path": f"cooperative/label_world/{frame_id}.json",
        "system_error_offset": {"delta_x": 1.0, "delta_y": 1.0},
    }
    append(inner / "cooperative" / "data_info.json", cooperative)
    write_json(inner / "cooperative" / "label_world" / f"{frame_id}.json", [world_label("car", 1000.0, 2020.0)])


def write_side(
    folder: Path, frame_id: str, lidar: str, label_key: str, to_world: dict[str, Any], inner: dict[str, Any] | None
) -> None:
    between = "novatel" if inner else "world"
    entry = {
        "image_path": f"image/{frame_id}.jpg",
        "pointcloud_path": f"velodyne/{frame_id}.pcd",
        "pointcloud_timestamp": str(1_600_000_000_000_000 + int(frame_id) * 100_000),
        "calib_camera_intrinsic_path": f"calib/camera_intrinsic/{frame_id}.json",
        f"calib_{lidar}_to_camera_path": f"calib/{lidar}_to_camera/{frame_id}.json",
        f"calib_{lidar}_to_{between}_path": f"calib/{lidar}_to_{between}/{frame_id}.json",
        label_key: f"label/{lidar}/{frame_id}.json",
        "batch_id": "3",
    }
    if inner:
        entry["calib_novatel_to_world_path"] = f"calib/novatel_to_world/{frame_id}.json"
        write_json(folder / f"calib/novatel_to_world/{frame_id}.json", to_world)
    calibration = {"transform": inner} if inner else to_world
    write_json(folder / f"calib/{lidar}_to_{between}/{frame_id}.json", calibration)
    write_json(folder / f"calib/{lidar}_to_camera/{frame_id}.json", {"rotation": NO_TURN, "translation": [0, 0, 0.5]})
    write_json(folder / f"calib/camera_intrinsic/{frame_id}.json", {"cam_K": [1000, 0, 960, 0, 1000, 540, 0, 0, 1]})
    labels = [label("Car", 20, 0), label("Pedestrian", 5, 0, 0.6), label("van", 0, 0, 0.0), label("BUS", 30, 5)]
    write_json(folder / f"label/{lidar}/{frame_id}.json", labels)
    append(folder / "data_info.json", entry)
    for name in ("velodyne", "image"):
        (folder / name).mkdir(exist_ok=True)
    write_pcd(folder / f"velodyne/{frame_id}.pcd", np.array([[1, 2, 3, 0.2]], np.float32))
    Image.fromarray(np.zeros((54, 96, 3), np.uint8)).save(folder / f"image/{frame_id}.jpg")


def append(path: Path, entry: dict[str, Any]) -> None:
    entries = json.loads(path.read_text()) if path.exists() else []
    if entry not in entries:
        write_json(path, [*entries, entry])


def write_tree(root: Path, label_key: str = "label_lidar_path") -> Path:
    """Write two pairs of frames, the first in the split train and the second in val."""
    for frame_id, roadside_id in (("000010", "000003"), ("000011", "000004")):
        write_pair(root, frame_id, roadside_id, label_key)
    write_json(root / "train.json", ["000010"])
    write_json(root / "val.json", ["000011"])
    return root
