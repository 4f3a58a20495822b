"""LiDAR points on labelled vehicles, and the vehicles that are hidden from the ego while another agent sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from heal.detection.label_filters import objects_within, without_vehicle_at
from heal.detection.points import points_in_boxes
from heal.se3 import relative_SE3, transform_points
from heal.types import AgentFrame, BoolMask, Int64, ObjectLabels, Scene

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
    world_SE3_ego = scene.outline.world_SE3_ego
    objects = objects_within(without_vehicle_at(scene.objects, world_SE3_ego), world_SE3_ego, range_m)
    counts = {frame.agent_id: count_points(frame, objects) for frame in scene.frames}
    return joint_visibility(objects.ids, {name: count for name, count in counts.items() if count}, scene.outline.ego_id)


@dataclass(frozen=True)
class PointCounts:
    """An agent's LiDAR points on vehicles: (N,) ids of the vehicles and (N,) numbers of points."""

    ids: Int64
    points: Int64

    def on(self, ids: Int64) -> Int64:
        """Return the number of points on each vehicle of `ids`, (M,); 0 on a vehicle that was not counted."""
        counted = dict(zip(self.ids.tolist(), self.points.tolist(), strict=True))
        return np.array([counted.get(number, 0) for number in ids.tolist()], np.int64)


def count_points(frame: AgentFrame, objects: ObjectLabels) -> PointCounts | None:
    """Count an agent's LiDAR points on objects; None without a sweep."""
    if frame.lidar is None:
        return None
    corners = transform_points(relative_SE3(frame.world_SE3_agent, np.eye(4)), objects.world_corners)
    return PointCounts(objects.ids, points_in_boxes(frame.lidar.points[:, :3].astype(np.float64), corners))


def joint_visibility(ids: Int64, counts: Mapping[str, PointCounts], ego_id: str) -> SceneVisibility:
    """Join the counts of several agents, by their ids, for the vehicles `ids` (N,); an agent without counts has no points."""
    points = {agent_id: count.on(ids) for agent_id, count in counts.items()}
    none = np.zeros(len(ids), np.int64)
    others = [own for agent_id, own in points.items() if agent_id != ego_id]
    return SceneVisibility(ids, points.get(ego_id, none), np.max([none, *others], axis=0))
