"""Point cloud files read with Open3D, the library that most people would take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from heal.types import Float32

FOLDER = "cooperative-vehicle-infrastructure"


def read_dair_clouds(root: Path, split: str, index: int) -> list[Float32]:
    """Read both clouds of a DAIR-V2X-C pair: the vehicle's and the roadside unit's.

    Args:
        root: folder with the lists of pairs and the folder cooperative-vehicle-infrastructure.
        split: name of a list of pairs, "train" or "val".
        index: position of the pair in the list, without the entries that have no pair.

    Returns:
        Two clouds (N, 4) float32: x, y, z in metres in the LiDAR's frame, intensity in [0, 1].
    """
    folder = root / FOLDER
    pairs = {}
    for pair in json.loads((folder / "cooperative" / "data_info.json").read_text()):
        pairs[Path(pair["vehicle_pointcloud_path"]).stem] = pair
    frame_ids = [frame_id for frame_id in json.loads((root / f"{split}.json").read_text()) if frame_id in pairs]
    pair = pairs[frame_ids[index]]
    return [_read_dair_cloud(folder / pair[f"{side}_pointcloud_path"]) for side in ("vehicle", "infrastructure")]


def read_opv2v_cloud(path: Path) -> Float32:
    """Read a cloud of OPV2V.

    Returns:
        (N, 4) float32: x, y, z in metres in the LiDAR's frame, intensity in [0, 1], which is the red byte of the file's `rgb`.
    """
    cloud = _read(path)
    return np.concatenate([cloud["positions"], cloud["colors"][:, :1] / np.float32(255)], axis=1)


def _read_dair_cloud(path: Path) -> Float32:
    """Read a cloud whose intensity is a byte or a number in [0, 1]; points that are NaN or infinite are left out."""
    cloud = _read(path)
    intensity = cloud["intensity"].astype(np.float32) / np.float32(255 if cloud["intensity"].dtype == np.uint8 else 1)
    points: Float32 = np.concatenate([cloud["positions"], intensity.clip(0, 1)], axis=1)
    return points[np.isfinite(points).all(axis=1)]


def _read(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read a PCD file: name of the attribute -> array (N, width)."""
    import open3d

    return {name: values.numpy() for name, values in open3d.t.io.read_point_cloud(path).point.items()}
