"""A comparison of tiny networks for tests, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heal.config import save_config

TYPE = {"encoder": {"channels": [8], "max_points": 8}, "backbone": {"blocks": [1], "strides": [2], "channels": [8]}}
SCHEDULE = {"epochs": 2, "batch_scenes": 2, "workers": 0, "validate_every_epochs": 0, "checkpoint_s": 0}
PYRAMID = {
    "blocks": [1, 1],
    "strides": [1, 2],
    "channels": [8, 16],
    "groups": 0,
    "upsample_strides": [1, 2],
    "upsample_channels": [8, 8],
}
LOSS = {"occupancy_weights": [0.4, 0.2]}


def micro(folder: Path, **changes: Any) -> dict[str, Any]:
    """Return a comparison of a pyramid and F-Cooper, with two types, two seeds and two conditions, on scenes in a folder."""
    grid = {"range_m": [-12.8, -6.4, -3.0, 12.8, 6.4, 1.0], "cell_m": 0.8}
    base = {"grid": grid, "in_channels": 8, "pyramid": PYRAMID, "shrink_channels": [16]}
    values = {
        "data": {"town": {"kind": "folder", "root": str(folder)}},
        "types": {"m1": TYPE, "m5": {**TYPE, "aligner": {"kind": "convnext", "blocks": 1}}},
        "methods": {"pyramid": {}, "f_cooper": {"stage1": {"base": {"fusion": {"kind": "f_cooper"}}}}},
        "against": "pyramid",
        "stage1": {"base": base, "loss": LOSS, "training": SCHEDULE},
        "stage2": {"loss": LOSS, "training": SCHEDULE},
        "seeds": [0, 1],
        "run": {"correct_poses": "off"},
        "conditions": {"perfect": {}, "noisy": {"noise": "position:0.4", "link": "delay:100,loss:0.2", "codec": "int8,zstd"}},
    }
    return {**values, **changes}


def save_spec(path: Path, values: dict[str, Any]) -> Path:
    """Write a comparison as a file."""
    save_config(values, path)
    return path
