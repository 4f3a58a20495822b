"""A small data set in OPV2V's layout whose clouds, images and labels agree, for tests of the doctor: two vehicles on a road."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from heal.datasets.pcd import write_pcd
from heal.se3 import inverse_SE3, pose_to_SE3, transform_points
from heal.types import Float32, Float64

AGENTS = {"641": 0.0, "650": 13.5}
STAMPS = tuple(f"{number:06d}" for number in range(68, 80, 2))
CAMERAS = 2
LIDAR_M = 2.0  # above the ground
SIZE_PX = (64, 48)
HALF_M = np.array([2.0, 1.0, 0.75])
RNG = np.random.default_rng(1)
_SURFACE = RNG.uniform(-1.0, 1.0, (30, 3)) * HALF_M
_SURFACE[:, 2] = np.abs(_SURFACE[:, 2])  # in the upper half, above the part that the ground may fill
_GROUND = np.column_stack([RNG.uniform(-45, 45, (150, 2)), np.zeros(150)])
SPLITS = ("train",)


def write_tree(root: Path) -> Path:
    """Write ROOT/OPV2V and ROOT/OPV2V_Hetero with one scenario in the split train; return ROOT/OPV2V."""
    for split in SPLITS:
        for agent_id in AGENTS:
            for number in range(len(STAMPS)):
                write_frame(root, split, agent_id, number)
    return root / "OPV2V"


def vehicles(number: int) -> dict[int, dict[str, Any]]:
    """The vehicles of frame `number`: every other one drives, 1 m in a frame."""
    return {
        300 + n: {
            "location": [-6.0 + 9.0 * (n // 2) + (number if n % 2 else 0), 6.0 if n % 2 else -6.0, 0.0],
            "center": [0.0, 0.0, 0.75],
            "extent": HALF_M.tolist(),
            "angle": [0.0, 0.0, 0.0],
        }
        for n in range(6)
    }


def write_frame(root: Path, split: str, agent_id: str, number: int) -> None:
    """Write all files of one agent's frame."""
    own, hetero = (root / tree / split / "scenario_a" / agent_id for tree in ("OPV2V", "OPV2V_Hetero"))
    own.mkdir(parents=True, exist_ok=True)
    hetero.mkdir(parents=True, exist_ok=True)
    stamp, x = STAMPS[number], AGENTS[agent_id] + number
    pose = [x, 0.0, LIDAR_M, 0.0, 0.0, 0.0]
    (own / f"{stamp}.yaml").write_text(yaml.safe_dump(metadata(pose, number)), encoding="utf-8")
    points = cloud(pose_to_SE3(pose), number)
    write_pcd(own / f"{stamp}.pcd", points)
    write_pcd(hetero / f"{stamp}_32.pcd", points[::2])
    write_pcd(hetero / f"{stamp}_16.pcd", points[::4])
    for camera in range(CAMERAS):
        Image.fromarray(np.full((*SIZE_PX[::-1], 3), (255, 128, 0), np.uint8)).save(own / f"{stamp}_camera{camera}.png")
        Image.fromarray(np.full(SIZE_PX[::-1], 20, np.uint8)).save(hetero / f"{stamp}_depth{camera}.png")


def metadata(pose: list[float], number: int) -> dict[str, Any]:
    """Metadata of an agent with a camera ahead and one to the rear, each of 90 degrees."""
    intrinsic = [[32.0, 0.0, 32.0], [0.0, 32.0, 24.0], [0.0, 0.0, 1.0]]
    cameras = {
        f"camera{camera}": {
            "cords": [*pose[:3], 0.0, 180.0 * camera, 0.0],
            "intrinsic": intrinsic,
            "extrinsic": np.eye(4).tolist(),
        }
        for camera in range(CAMERAS)
    }
    return {"lidar_pose": pose, "ego_speed": 36.0, **cameras, "vehicles": vehicles(number)}


def cloud(world_SE3_lidar: Float64, number: int) -> Float32:
    """Points on all vehicles of a frame and on the ground, in the frame of a LiDAR."""
    centres = [np.add(each["location"], each["center"]) for each in vehicles(number).values()]
    world = np.concatenate([_GROUND, *(centre + _SURFACE for centre in centres)])
    points = transform_points(inverse_SE3(world_SE3_lidar), world)
    swept: Float32 = np.column_stack([points, np.full(len(points), 0.4)]).astype(np.float32)
    return swept
