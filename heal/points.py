"""LiDAR points before voxelising: cut to a range, free of the own vehicle, moved between frames.

In numpy, as it runs where scans are read.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from heal.types import Float32, Float64

BoolMask = npt.NDArray[np.bool_]

# The box around an agent's own LiDAR that holds its own body: x_min, x_max, half width, metres, at any height.
OWN_VEHICLE_M = (-1.95, 2.95, 1.1)


def points_within_range(points: Float32, range_m: Sequence[float]) -> BoolMask:
    """Which points lie strictly inside a range.

    Args:
        points: (N, 3 or more) x, y, z, ... in metres.
        range_m: x_min, y_min, z_min, x_max, y_max, z_max; the bounds are outside.

    Returns:
        (N,) bool.
    """
    low, high = np.asarray(range_m[:3], points.dtype), np.asarray(range_m[3:], points.dtype)
    inside: BoolMask = np.all((points[:, :3] > low) & (points[:, :3] < high), axis=1)
    return inside


def points_on_own_vehicle(points: Float32) -> BoolMask:
    """Which points, (N, 3 or more) in the agent's own frame, hit the vehicle that carries the LiDAR; (N,) bool, bounds included."""
    x_min, x_max, half_width = (points.dtype.type(value) for value in OWN_VEHICLE_M)
    x, y = points[:, 0], points[:, 1]
    on_vehicle: BoolMask = (x >= x_min) & (x <= x_max) & (np.abs(y) <= half_width)
    return on_vehicle


def transform_scan(a_SE3_b: Float64, b_points: Float32) -> Float32:
    """Map a scan from frame b into frame a.

    Args:
        a_SE3_b: (4, 4) float64.
        b_points: (N, 3 or more) float32; what follows x, y, z (intensity) is kept.

    Returns:
        The points in frame a, float32, computed in float64.
    """
    a_points: Float32 = b_points.copy()
    a_points[:, :3] = b_points[:, :3].astype(np.float64) @ a_SE3_b[:3, :3].T + a_SE3_b[:3, 3]
    return a_points
