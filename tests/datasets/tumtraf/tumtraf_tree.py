"""Write scenes of a vehicle and a roadside unit as TUMTraf-V2X's folder tree, with the keys of its OpenLABEL files."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heal.datasets.pcd import write_pcd
from heal.se3 import relative_SE3
from heal.types import AgentFrame, Scene
from tests.datasets.town_truth import box_pose, quaternion

ROADSIDE, VEHICLE = "s110_lidar_ouster_south", "vehicle_lidar_robosense"
REGISTERED = f"{ROADSIDE}_and_{VEHICLE}_registered"
CAMERAS = ("s110_camera_basler_south1_8mm", "s110_camera_basler_south2_8mm", "vehicle_camera_basler_16mm")
FIRST_S = 1688626050


def label_path(split: Path, stamp: str) -> Path:
    return split / "labels_point_clouds" / REGISTERED / f"{stamp}_{REGISTERED}.json"


def cloud_path(split: Path, stamp: str, sensor: str) -> Path:
    return split / "point_clouds" / sensor / f"{stamp}_{sensor}.pcd"


def cuboid(kind: str, values: Sequence[float]) -> dict[str, Any]:
    """An object: centre, quaternion x, y, z, w, and length, width, height."""
    attributes = {"text": [{"name": "occlusion_level", "val": "NOT_OCCLUDED"}], "num": [{"name": "num_points", "val": 17}]}
    return {"object_data": {"name": kind, "type": kind, "cuboid": {"name": "shape3D", "val": [*values], "attributes": attributes}}}


def write_split(split: Path, scenes: Sequence[Scene], pause_s: int = 0) -> list[str]:
    """Write the scenes, each 0.1 s and `pause_s` after the one before; return their stamps."""
    return [_write_frame(split, scene, FIRST_S + place * pause_s, place * 100_000_000) for place, scene in enumerate(scenes)]


def _write_frame(split: Path, scene: Scene, second: int, nanosecond: int) -> str:
    roadside, vehicle = scene.frame("-1"), scene.frame("1000")
    stamps = {
        sensor: f"{second}_{nanosecond + late:09d}" for sensor, late in ((ROADSIDE, 0), (VEHICLE, 30_000_000), (REGISTERED, 0))
    }
    for sensor, frame in ((ROADSIDE, roadside), (VEHICLE, vehicle)):
        _write_cloud(cloud_path(split, stamps[sensor], sensor), frame)
    clouds = [cloud_path(split, stamps[sensor], sensor).name for sensor in (VEHICLE, ROADSIDE, REGISTERED)]
    matrix = relative_SE3(roadside.world_SE3_agent, vehicle.world_SE3_agent)
    transform = {"src": VEHICLE, "dst": ROADSIDE, "transform_src_to_dst": {"matrix4x4": matrix.tolist()}}
    properties = {
        "timestamp": second + nanosecond / 1e9,
        "image_file_names": [f"{stamps[ROADSIDE]}_{camera}.jpg" for camera in CAMERAS],
        "point_cloud_file_names": clouds,
        "transforms": {f"{VEHICLE}_to_{ROADSIDE}": transform},
    }
    objects = {}
    for object_id, corners in zip(scene.objects.ids, scene.objects.world_corners, strict=True):
        world_SE3_object, size_lwh = box_pose(corners)
        pose = relative_SE3(roadside.world_SE3_agent, world_SE3_object)
        w, x, y, z = quaternion(pose)
        objects[str(uuid.UUID(int=int(object_id)))] = cuboid("CAR", [*pose[:3, 3], x, y, z, w, *size_lwh])
    frame = {"frame_properties": properties, "objects": objects}
    path = label_path(split, stamps[REGISTERED])
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"schema_version": "1.0.0"}
    path.write_text(json.dumps({"openlabel": {"metadata": metadata, "coordinate_systems": {}, "frames": {"0": frame}}}))
    return stamps[REGISTERED]


def _write_cloud(path: Path, frame: AgentFrame) -> None:
    assert frame.lidar is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    points = frame.lidar.points.copy()
    points[:, 3] = np.rint(points[:, 3] * 255) / 255  # as the file keeps it
    write_pcd(path, points)
