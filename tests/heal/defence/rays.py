"""Clouds of a LiDAR over flat ground with boxes on it, for tests of the space that rays crossed."""

from __future__ import annotations

import numpy as np

from heal.types import Float32

HEIGHT_M = 1.9
CAR_M = (4.5, 1.8, 1.5)


def cloud(*boxes: tuple[float, ...], slope: float = 0.0) -> Float32:
    """Return the returns (N, 4) of 64 x 1440 rays, with the sensor at the origin.

    Args:
        boxes: middles x, y of boxes on the ground of the size of a car, or x, y and edges along x, y, z.
        slope: how much the ground rises along x, in metres per metre.
    """
    azimuth, elevation = np.meshgrid(np.radians(np.arange(0, 360, 0.25)), np.radians(np.linspace(-25, 2, 64)))
    ray = np.stack([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], -1).reshape(-1, 3)
    with np.errstate(divide="ignore", invalid="ignore"):
        to_ground = -HEIGHT_M / (ray[:, 2] - slope * ray[:, 0])
        nearest = np.where(to_ground > 0, to_ground, np.inf)
        for x, y, *edges in boxes:
            length, width, height = edges or CAR_M
            middle, half = np.array([x, y, slope * x - HEIGHT_M + height / 2]), np.array([length, width, height]) / 2
            ends = np.sort(np.stack([(middle - half) / ray, (middle + half) / ray]), axis=0)
            enter, leave = ends[0].max(axis=1), ends[1].min(axis=1)
            nearest = np.where((enter < leave) & (enter > 0), np.minimum(nearest, enter), nearest)
    found = nearest < 100.0
    points = np.zeros((int(found.sum()), 4), np.float32)
    points[:, :3] = ray[found] * nearest[found, None]
    return points
