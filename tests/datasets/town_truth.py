"""Scenes of the town as the truth of a data set that a test writes, and their boxes as poses and sizes."""

from __future__ import annotations

from functools import cache

import numpy as np

from heal.datasets.town.source import TownSource
from heal.types import Float64, Scene, load_scene

# Opposite sides of a box's corners, as `heal.box_corners` orders them: front and rear, left and right, top and bottom.
SIDES = ([0, 1, 4, 5], [2, 3, 6, 7]), ([1, 2, 5, 6], [0, 3, 4, 7]), ([4, 5, 6, 7], [0, 1, 2, 3])


@cache
def town_scenes() -> tuple[Scene, ...]:
    """Two instants of a small town: two vehicles, "1000" and "1001", and a roadside unit, "-1"."""
    source = TownSource("test", seed=0, ticks=2)
    return load_scene(source, 0), load_scene(source, 1)


def quaternion(pose: Float64) -> list[float]:
    """Quaternion w, x, y, z of a pose: the eigenvector to the largest eigenvalue of a matrix of its rotation."""
    (a, b, c), (d, e, f), (g, h, i) = pose[:3, :3]
    rows = [[a + e + i, h - f, c - g, d - b], [h - f, a - e - i, b + d, c + g], [c - g, b + d, e - a - i, f + h]]
    values: list[float] = np.linalg.eigh(np.array([*rows, [d - b, c + g, f + h, i - a - e]]))[1][:, -1].tolist()
    return values


def box_pose(corners: Float64) -> tuple[Float64, list[float]]:
    """Pose, and length, width and height, of a box that is given by its corners (8, 3), tilted or not."""
    edges = [corners[one].mean(axis=0) - corners[other].mean(axis=0) for one, other in SIDES]
    sizes = [float(np.linalg.norm(edge)) for edge in edges]
    pose = np.eye(4)
    pose[:3, :3] = np.stack([edge / size for edge, size in zip(edges, sizes, strict=True)], axis=1)
    pose[:3, 3] = corners.mean(axis=0)
    return pose, sizes
