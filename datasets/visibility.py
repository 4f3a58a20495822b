"""LiDAR points on labelled vehicles, and the vehicles that are hidden from the ego while another agent sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heal.detection.ground_truth import ground_truth
from heal.se3 import relative_SE3, transform_points
from heal.types import BoolMask, Float64, Int64, Scene

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


def points_in_boxes(points: Float64, corners: Float64, margin_m: float = 0.1) -> Int64:
    """Count the points in each box.

    Args:
        points: (N, 3) metres.
        corners: (M, 8, 3) metres in the same frame, in the corner order of `heal.detection.boxes`; boxes may be tilted.
        margin_m: distance outside a face at which a point still counts, because sensor noise puts half of a surface's points there.

    Returns:
        (M,) number of points in each box.
    """
    order = np.argsort(points[:, 0], kind="stable")
    by_x = points[order]
    first = np.searchsorted(by_x[:, 0], corners[..., 0].min(axis=1) - margin_m)
    last = np.searchsorted(by_x[:, 0], corners[..., 0].max(axis=1) + margin_m, side="right")
    counts = [_count_inside(by_x[start:end], box, margin_m) for start, end, box in zip(first, last, corners, strict=True)]
    return np.array(counts, np.int64)


def _count_inside(points: Float64, box: Float64, margin_m: float) -> int:
    """Count the points (N, 3) that are at most half the size of a box (8, 3) from its middle, along each axis of the box."""
    middle = box.mean(axis=0)
    axes = np.stack([box[0] - box[3], box[1] - box[0], box[4] - box[0]])
    sizes = np.linalg.norm(axes, axis=1)
    near = points[np.abs(points[:, 1] - middle[1]) <= sizes.sum() / 2 + margin_m]
    along = np.abs((near - middle) @ (axes / np.maximum(sizes, 1e-9)[:, None]).T)
    return int((along <= sizes / 2 + margin_m).all(axis=1).sum())


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
