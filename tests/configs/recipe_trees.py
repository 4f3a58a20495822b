"""Small trees of the recipes' data sets, in their layouts: the clouds, images, depth images, labels and agents that each has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from heal.datasets.pcd import write_pcd
from tests.datasets.dair import dair_tree
from tests.datasets.opv2v import opv2v_tree

STAMP = "000068"


def write_recipe_trees(root: Path) -> dict[str, Path]:
    """Write a tree of each data set, with a split "train"; return its folder by the name of the recipes' folder."""
    return {"opv2v": _write_opv2v(root), "dair": _write_dair(root / "dair"), "v2xset": _write_v2xset(root)}


def _write_opv2v(root: Path) -> Path:
    """Write two vehicles with four cameras, their visibility maps, depth images, and clouds of 64 and 32 lines."""
    for number, agent_id in enumerate(("641", "650")):
        place = Path("train", "scenario_a", agent_id)
        write_agent(root / "OPV2V" / place, 10.0 * number)
        for folder in (root / "OPV2V_Hetero" / place, root / "OPV2V" / "additional" / place):
            folder.mkdir(parents=True)
        write_pcd(root / "OPV2V_Hetero" / place / f"{STAMP}_32.pcd", cloud(seed=2))
        for camera in range(4):
            _write_grey(root / "OPV2V_Hetero" / place / f"{STAMP}_depth{camera}.png", (60, 80), 20)
        _write_grey(root / "OPV2V" / "additional" / place / f"{STAMP}_bev_visibility.png", (256, 256), 255)
    return root / "OPV2V"


def _write_v2xset(root: Path) -> Path:
    """Write a vehicle and a roadside unit with four cameras: no visibility maps, no depth images, clouds of 64 lines alone."""
    for number, agent_id in enumerate(("641", "-1")):
        write_agent(root / "V2XSet" / "train" / "scenario_a" / agent_id, 10.0 * number)
    return root / "V2XSet"


def _write_dair(root: Path) -> Path:
    """Write a pair of a vehicle and a roadside unit, each with one camera and one cloud, in the split train."""
    dair_tree.write_tree(root)
    for path in root.rglob("velodyne/*.pcd"):
        write_pcd(path, cloud(seed=3))
    for path in root.rglob("label/*/*.json"):
        path.write_text(json.dumps([dair_tree.label("Car", 8, 3), dair_tree.label("Car", 6, -5)]))
    return root


def write_agent(folder: Path, x: float) -> None:
    """Write the frame of an agent at (x, 0) that sees two vehicles: metadata, a cloud, and the images of four cameras."""
    values: dict[str, Any] = opv2v_tree.metadata(x, vehicles={300: opv2v_tree.vehicle(6, 4), 301: opv2v_tree.vehicle(8, -5)})
    values |= {f"camera{number}": values["camera0"] for number in range(1, 4)}
    opv2v_tree.write_frame(folder, STAMP, values)
    write_pcd(folder / f"{STAMP}.pcd", cloud(seed=1))
    for camera in range(4):
        pixels = np.random.default_rng(camera).integers(0, 255, (60, 80, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{STAMP}_camera{camera}.png")


def cloud(seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return 2000 random points within 12 m, x, y, z and intensity."""
    return np.random.default_rng(seed).uniform((-12, -12, -2, 0), (12, 12, 0.5, 1), (2000, 4)).astype(np.float32)


def _write_grey(path: Path, size: tuple[int, int], value: int) -> None:
    Image.fromarray(np.full(size, value, np.uint8)).save(path)
