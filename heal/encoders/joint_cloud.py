"""Early fusion: the clouds of several agents come in, and one cloud in the frame of the ego goes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from heal.encoders.lidar import points_on_own_vehicle, transform_scan
from heal.se3 import relative_SE3
from heal.types import AgentFrame, Float32, Float64, LidarScan

Cloud = tuple[Float32, Float64]
"""The points (N, 4) of an agent in its own frame, and the pose (4, 4) float64 that the agent measures."""


def points_to_share(frame: AgentFrame) -> Float32 | None:
    """Return the points (N, 4) of an agent without those on its own vehicle; None for an agent without a LiDAR."""
    points = None if frame.lidar is None else frame.lidar.points
    return None if points is None else points.compress(~points_on_own_vehicle(points), axis=0)


def join_clouds(clouds: Sequence[Cloud], world_SE3_ego: Float64) -> Float32:
    """Return the points (N, 4) of all clouds, one cloud after the other, in the frame of the pose that the ego measures."""
    moved = [transform_scan(relative_SE3(world_SE3_ego, pose), points) for points, pose in clouds]
    return np.concatenate([np.zeros((0, 4), np.float32), *moved])


def with_joint_cloud(ego: AgentFrame, others: Sequence[AgentFrame]) -> AgentFrame:
    """Return the frame of the ego with the points of all agents in place of its own, and without cameras.

    Agents without a LiDAR add nothing.
    """
    shared = [(points_to_share(frame), frame.world_SE3_agent_measured) for frame in (ego, *others)]
    clouds = [(points, pose) for points, pose in shared if points is not None]
    return replace(ego, lidar=LidarScan(join_clouds(clouds, ego.world_SE3_agent_measured)), cameras=())
