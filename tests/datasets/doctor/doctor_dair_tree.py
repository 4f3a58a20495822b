"""A small data set in DAIR-V2X-C's layout whose clouds and labels agree, for tests of the doctor: a vehicle drives past a pole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from heal.datasets.pcd import write_pcd
from heal.se3 import inverse_SE3, pose_to_SE3, transform_points
from heal.types import Float64
from tests.datasets.dair.dair_tree import INNER, write_json
from tests.datasets.doctor.doctor_tree import HALF_M, cloud, vehicles

FRAMES = 6
SIDES = {"vehicle-side": "lidar", "infrastructure-side": "virtuallidar"}
ROADSIDE_POSE = [5.0, -9.0, 5.0, 0.0, 180.0, 0.0]


def write_dair_tree(root: Path) -> Path:
    """Write the frames 000000 to 000005 of both sides, all in the split train; return `root`."""
    pairs = []
    for number in range(FRAMES):
        name = f"{number:06d}"
        _write_side(root / INNER / "vehicle-side", "lidar", number, [float(number), 0.0, 2.0, 0.0, 0.0, 0.0])
        _write_side(root / INNER / "infrastructure-side", "virtuallidar", number, ROADSIDE_POSE)
        corners = [_corners(each) for each in vehicles(number).values()]
        write_json(root / INNER / f"cooperative/label_world/{name}.json", [{"type": "car", "world_8_points": c} for c in corners])
        sides = {"vehicle": "vehicle-side", "infrastructure": "infrastructure-side"}
        clouds = {f"{side}_pointcloud_path": f"{folder}/velodyne/{name}.pcd" for side, folder in sides.items()}
        pairs.append({**clouds, "cooperative_label_path": f"cooperative/label_world/{name}.json"})
    write_json(root / INNER / "cooperative" / "data_info.json", pairs)
    for side in SIDES:
        write_json(root / INNER / side / "data_info.json", [_entry(side, number) for number in range(FRAMES)])
    write_json(root / "train.json", [f"{number:06d}" for number in range(FRAMES)])
    return root


def _entry(side: str, number: int) -> dict[str, Any]:
    name, lidar = f"{number:06d}", SIDES[side]
    poses = ("lidar_to_novatel", "novatel_to_world") if lidar == "lidar" else ("virtuallidar_to_world",)
    calibrations = (*poses, "camera_intrinsic", f"{lidar}_to_camera")
    return {
        "image_path": f"image/{name}.jpg",
        "pointcloud_path": f"velodyne/{name}.pcd",
        "pointcloud_timestamp": str(1_600_000_000_000_000 + number * 100_000),
        "label_lidar_path": f"label/{lidar}/{name}.json",
        "batch_id": "3",
        **{f"calib_{each}_path": f"calib/{each}/{name}.json" for each in calibrations},
    }


def _write_side(folder: Path, lidar: str, number: int, pose: list[float]) -> None:
    name, world_SE3_lidar = f"{number:06d}", pose_to_SE3(pose)
    to_world = "novatel_to_world" if lidar == "lidar" else "virtuallidar_to_world"
    write_json(folder / f"calib/{to_world}/{name}.json", _rigid(world_SE3_lidar))
    if lidar == "lidar":
        write_json(folder / f"calib/lidar_to_novatel/{name}.json", {"transform": _rigid(np.eye(4))})
    ahead = {"rotation": [[0, -1, 0], [0, 0, -1], [1, 0, 0]], "translation": [0, 0, 0]}
    write_json(folder / f"calib/{lidar}_to_camera/{name}.json", ahead)
    write_json(folder / f"calib/camera_intrinsic/{name}.json", {"cam_K": [48, 0, 48, 0, 48, 27, 0, 0, 1]})
    labels = [_label(each, world_SE3_lidar) for each in vehicles(number).values()]
    write_json(folder / f"label/{lidar}/{name}.json", labels)
    for kind in ("velodyne", "image"):
        (folder / kind).mkdir(exist_ok=True)
    write_pcd(folder / f"velodyne/{name}.pcd", cloud(world_SE3_lidar, number))
    Image.fromarray(np.zeros((54, 96, 3), np.uint8)).save(folder / f"image/{name}.jpg")


def _rigid(a_SE3_b: Float64) -> dict[str, Any]:
    return {"rotation": a_SE3_b[:3, :3].tolist(), "translation": a_SE3_b[:3, 3].reshape(3, 1).tolist()}


def _label(vehicle: dict[str, Any], world_SE3_lidar: Float64) -> dict[str, Any]:
    centre = transform_points(inverse_SE3(world_SE3_lidar), np.add(vehicle["location"], vehicle["center"]))
    turned = float(np.arctan2(*inverse_SE3(world_SE3_lidar)[[1, 0], 0]))
    size = dict(zip("lwh", (2 * HALF_M).tolist(), strict=True))
    return {"type": "Car", "3d_location": dict(zip("xyz", centre.tolist(), strict=True)), "3d_dimensions": size, "rotation": turned}


def _corners(vehicle: dict[str, Any]) -> list[list[float]]:
    planar = np.array([(1, -1), (1, 1), (-1, 1), (-1, -1)])
    centre = np.add(vehicle["location"], vehicle["center"])
    return [[*(centre[:2] + HALF_M[:2] * signs), centre[2] + up * HALF_M[2]] for up in (-1, 1) for signs in planar]
