"""A small folder tree in OPV2V's layout, for the tests of its reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from heal.datasets.pcd import write_pcd

INTRINSIC = [[335.0, 0.0, 400.0], [0.0, 335.0, 300.0], [0.0, 0.0, 1.0]]


def vehicle(x: float, y: float, yaw_deg: float = 0.0) -> dict[str, Any]:
    """A vehicle of 4.0 x 2.0 x 1.5 m that stands on the ground."""
    return {"location": [x, y, 0.0], "center": [0.0, 0.0, 0.75], "extent": [2.0, 1.0, 0.75], "angle": [0.0, yaw_deg, 0.0]}


def metadata(x: float = 0.0, y: float = 0.0, yaw_deg: float = 0.0, vehicles: dict[int, Any] | None = None) -> dict[str, Any]:
    """Metadata of an agent at (x, y), its LiDAR 2 m above ground, one camera 1 m ahead of the LiDAR."""
    ahead = [x + float(np.cos(np.radians(yaw_deg))), y + float(np.sin(np.radians(yaw_deg))), 2.0]
    camera = {"cords": [*ahead, 0.0, yaw_deg, 0.0], "intrinsic": INTRINSIC, "extrinsic": np.eye(4).tolist()}
    return {"lidar_pose": [x, y, 2.0, 0.0, yaw_deg, 0.0], "ego_speed": 0.0, "camera0": camera, "vehicles": vehicles or {}}


def write_frame(folder: Path, stamp: str, values: dict[str, Any]) -> None:
    """Write one agent's frame: metadata, a cloud of three points, one image."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stamp}.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    write_pcd(folder / f"{stamp}.pcd", np.array([[1, 0, 0, 0.2], [2, 0, 0, 0.4], [3, 0, 0, 0.6]], np.float32))
    Image.fromarray(np.full((6, 8, 3), (255, 128, 0), np.uint8)).save(folder / f"{stamp}_camera0.png")


def write_tree(root: Path, agents: tuple[str, ...] = ("641", "650"), stamps: tuple[str, ...] = ("000068", "000070")) -> Path:
    """Write ROOT/OPV2V/test/scenario_a with some agents, 10 m apart, each of which sees two vehicles."""
    for number, agent_id in enumerate(agents):
        for stamp in stamps:
            seen = {300 + number: vehicle(10.0 * number, 6.0), 301 + number: vehicle(10.0 * number + 10.0, 6.0)}
            write_frame(root / "OPV2V" / "test" / "scenario_a" / agent_id, stamp, metadata(10.0 * number, vehicles=seen))
    return root / "OPV2V"
