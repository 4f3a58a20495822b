"""Point clouds for LiDAR encoders: an agent's own scan, without the points that hit the agent itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heal.errors import UserError
from heal.types import AgentFrame, BoolMask, Float32, Float64


def lidar_clouds(frames: Sequence[AgentFrame], rng: np.random.Generator | None = None) -> list[Float32]:
    """Return the clouds (N, 4) of agents, each in the agent's own frame.

    Args:
        frames: one for every agent.
        rng: shuffles the points in training, so that a full voxel keeps a random choice of its points.

    Raises:
        ValueError: an agent has no LiDAR scan.
    """
    return [_lidar_cloud(frame, rng) for frame in frames]


def _lidar_cloud(frame: AgentFrame, rng: np.random.Generator | None) -> Float32:
    """Return the cloud (N, 4) of one agent."""
    if frame.lidar is None:
        raise UserError(
            f"agent {frame.agent_id!r} has no LiDAR scan, and its type needs one; read the data with sensors={{'lidar'}}"
        )
    points = frame.lidar.points
    away = ~points_on_own_vehicle(points)
    if rng is None:
        return points.compress(away, axis=0)
    order = rng.permutation(len(points))
    return points.take(order[away[order]], axis=0)


# The vehicle that carries the LiDAR, in the LiDAR's frame: x_min, x_max and half the width, in metres; any height.
OWN_VEHICLE_M = (-1.95, 2.95, 1.1)


def points_within_range(points: Float32, range_m: Sequence[float]) -> BoolMask:
    """Return which points lie strictly inside a range.

    Args:
        points: (N, 3 or more) x, y, z, ... in metres.
        range_m: x_min, y_min, z_min, x_max, y_max, z_max; a point on a bound is outside.

    Returns:
        (N,) bool.
    """
    low, high = np.asarray(range_m[:3], points.dtype), np.asarray(range_m[3:], points.dtype)
    inside: BoolMask = np.all((points[:, :3] > low) & (points[:, :3] < high), axis=1)
    return inside


def points_on_own_vehicle(points: Float32) -> BoolMask:
    """Return which points hit the vehicle that carries the LiDAR.

    Args:
        points: (N, 3 or more) x, y, z, ... in the agent's own frame, in metres.

    Returns:
        (N,) bool; a point on a bound of `OWN_VEHICLE_M` hits the vehicle.
    """
    x_min, x_max, half_width = (points.dtype.type(value) for value in OWN_VEHICLE_M)
    x, y = points[:, 0], points[:, 1]
    on_vehicle: BoolMask = (x >= x_min) & (x <= x_max) & (np.abs(y) <= half_width)
    return on_vehicle


def transform_scan(a_SE3_b: Float64, b_points: Float32) -> Float32:
    """Map a scan from frame b into frame a.

    Args:
        a_SE3_b: (4, 4) float64.
        b_points: (N, 3 or more) float32 x, y, z, ...; the columns behind z (intensity) are kept.

    Returns:
        The points in frame a, float32, computed in float64.
    """
    a_points: Float32 = b_points.copy()
    a_points[:, :3] = b_points[:, :3].astype(np.float64) @ a_SE3_b[:3, :3].T + a_SE3_b[:3, 3]
    return a_points
