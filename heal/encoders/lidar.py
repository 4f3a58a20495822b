"""What all encoders of LiDAR clouds begin with: the points of an agent's own scan that do not lie on the agent itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heal.points import points_on_own_vehicle
from heal.types import AgentFrame, Float32


def lidar_clouds(frames: Sequence[AgentFrame], rng: np.random.Generator | None = None) -> list[Float32]:
    """The clouds (N, 4) of agents, each in its own frame.

    Args:
        frames: one for every agent.
        rng: shuffles the points, in training: which ones a full voxel keeps is then random.

    Raises:
        ValueError: an agent has no LiDAR scan.
    """
    return [_cloud(frame, rng) for frame in frames]


def _cloud(frame: AgentFrame, rng: np.random.Generator | None) -> Float32:
    if frame.lidar is None:
        raise ValueError(
            f"agent {frame.agent_id!r} has no LiDAR scan, and its type needs one; read the data with sensors={{'lidar'}}"
        )
    points = frame.lidar.points
    away = ~points_on_own_vehicle(points)
    if rng is None:
        return points.compress(away, axis=0)
    order = rng.permutation(len(points))
    return points.take(order[away[order]], axis=0)
