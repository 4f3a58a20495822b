"""LiDAR points on labelled vehicles, and the vehicles that are hidden from the ego while another agent sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heal.detection.ground_truth import ground_truth
from heal.detection.points import points_in_boxes
from heal.se3 import relative_SE3, transform_points
from heal.types import BoolMask, Int64, Scene

HIDDEN_BELOW = 5  # a vehicle with fewer LiDAR points is hidden from the ego
SEEN_ABOVE = 20  # a vehicle with more LiDAR points is seen well by another agent
EVALUATION_RANGE_M = (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0)


@dataclass(frozen=True)
class SceneVisibility:
    """LiDAR points on the labelled vehicles of one scene.

    Attributes:
        ids: (N,) ids of the vehicles within range of the ego, without the ego itself.
        ego_points: (N,) number of points of the ego's sweep on each vehicle.
        best_other_points: (N,) largest number of points of another agent's sweep on each vehicle; 0 without another agent.
    """

    ids: Int64
    ego_points: Int64
    best_other_points: Int64

    @property
    def hidden(self) -> BoolMask:
        """Whether the ego has almost no points on a vehicle while another agent has many, as (N,)."""
        return (self.ego_points < HIDDEN_BELOW) & (self.best_other_points > SEEN_ABOVE)


def scene_visibility(scene: Scene, range_m: Sequence[float] = EVALUATION_RANGE_M) -> SceneVisibility:
    """Count each agent's points on the vehicles within `range_m` (x_min, y_min, z_min, x_max, y_max, z_max) of the ego."""
    truth = ground_truth(scene, range_m, include_ego=False)
    kept = np.isin(scene.objects.ids, truth.ids.numpy())
    ids, world_corners = scene.objects.ids[kept], scene.objects.world_corners[kept]
    own, others = np.zeros(len(ids), np.int64), np.zeros(len(ids), np.int64)
    for frame in scene.frames:
        if frame.lidar is None:
            continue
        corners = transform_points(relative_SE3(frame.world_SE3_agent, np.eye(4)), world_corners)
        counts = points_in_boxes(frame.lidar.points[:, :3].astype(np.float64), corners)
        if frame.agent_id == scene.outline.ego_id:
            own = counts
        else:
            others = np.maximum(others, counts)
    return SceneVisibility(ids, own, others)
