"""Count boxes that hold points of a cloud and boxes that lie in an image: the evidence for and against a calibration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import permutations

import numpy as np

from heal.box_corners import YAW, H, L, W, X, Y, Z, boxes_around_origin, corners_to_boxes
from heal.datasets.doctor.facts import Hits
from heal.se3 import inverse_SE3, transform_points
from heal.types import AgentFrame, BoolMask, CameraView, Float32, Float64, ObjectLabels

NEAREST_M, FURTHEST_M = 3.0, 35.0  # boxes at this distance have many points, unless something hides them
SEEN_M = 45.0
AROUND_M = 0.5
GROUND_M = 0.3  # the lowest part of a box does not count: the ground is in it, wherever the box lies


def cloud_hits(frames: Sequence[AgentFrame]) -> dict[tuple[str, str, str], Hits]:
    """Count, for all pairs of agents, the boxes of one that hold points of the other's cloud.

    Returns:
        (agent of the cloud, agent of the pose, agent of the labels) -> counts. The pose is another agent's than the cloud in the
        test of whether two clouds are exchanged; the labels are then those of both agents, and the first one stands for them.
    """
    sorted_clouds = {frame.agent_id: _by_x(frame.lidar.points) for frame in frames if frame.lidar is not None}
    found: dict[tuple[str, str, str], Hits] = {}
    for frame in frames:
        points = sorted_clouds.get(frame.agent_id)
        if points is not None:
            found[frame.agent_id, frame.agent_id, frame.agent_id] = box_hits(points, frame.world_SE3_agent, frame.objects)
    for one, other in permutations(frames, 2):
        points = sorted_clouds.get(one.agent_id)
        if points is not None:
            found[one.agent_id, one.agent_id, other.agent_id] = box_hits(points, one.world_SE3_agent, other.objects)
            both = ObjectLabels.union([one.objects, other.objects])
            found[one.agent_id, other.agent_id, one.agent_id] = box_hits(points, other.world_SE3_agent, both)
    return found


def box_hits(points_by_x: Float32, world_SE3_lidar: Float64, objects: ObjectLabels) -> Hits:
    """Count the boxes near a sensor, and those of them that hold a point.

    Args:
        points_by_x: (N, 4) points in the sensor's frame, sorted by x.
        world_SE3_lidar: (4, 4) the sensor's pose.
        objects: the boxes; one around the sensor itself does not count.
    """
    boxes = corners_to_boxes(transform_points(inverse_SE3(world_SE3_lidar), objects.world_corners))
    distance = np.hypot(boxes[:, X], boxes[:, Y])
    near = boxes[(distance > NEAREST_M) & (distance < FURTHEST_M) & ~boxes_around_origin(boxes)]
    return Hits(len(near), sum(_holds_a_point(points_by_x, box) for box in near))


def image_hits(views: Iterable[CameraView], world_SE3_agent: Float64, objects: ObjectLabels) -> Hits:
    """Count the boxes near an agent, and those of them whose centre lies in one of its images."""
    centres = transform_points(inverse_SE3(world_SE3_agent), objects.world_corners.mean(axis=1))
    distance = np.hypot(centres[:, 0], centres[:, 1])
    near = centres[(distance > NEAREST_M) & (distance < SEEN_M)]
    inside = np.zeros(len(near), bool)
    for view in views:
        inside |= _in_image(view, near)
    return Hits(len(near), int(inside.sum()))


def view_share(views: Iterable[CameraView]) -> float:
    """Return the share of all horizontal directions that cameras look in, overlaps counted twice, at most 1."""
    angles = (2 * np.arctan(view.image.shape[1] / 2 / view.intrinsic[0, 0]) for view in views)
    return float(min(sum(angles) / (2 * np.pi), 1.0))


def _by_x(points: Float32) -> Float32:
    sorted_points: Float32 = points[np.argsort(points[:, 0])]
    return sorted_points


def _holds_a_point(points_by_x: Float32, box: Float64) -> bool:
    """Whether a box (7,) holds points, and more than lie close around it; its lowest part is left out.

    A vehicle stands free. A box at a wrong place often holds points of a wall or of a hedge, which go on beyond the box.
    """
    reach = np.hypot(box[L], box[W]) / 2 + AROUND_M
    begin, end = np.searchsorted(points_by_x[:, 0], [box[X] - reach, box[X] + reach])
    offset = points_by_x[begin:end, :3] - box[[X, Y, Z]]
    cos, sin = np.cos(box[YAW]), np.sin(box[YAW])
    along, across = offset[:, 0] * cos + offset[:, 1] * sin, offset[:, 1] * cos - offset[:, 0] * sin
    beyond = np.maximum(np.abs(along) - box[L] / 2, np.abs(across) - box[W] / 2)
    beyond = np.maximum(beyond, offset[:, 2] - box[H] / 2)[offset[:, 2] >= GROUND_M - box[H] / 2]
    inside = int((beyond <= 0).sum())
    return inside > int((beyond <= AROUND_M).sum()) - inside


def _in_image(view: CameraView, points: Float64) -> BoolMask:
    """Tell which points (N, 3) in the agent's frame lie in an image."""
    seen = transform_points(inverse_SE3(view.agent_SE3_camera), points)
    ahead = seen[:, 2] > 0.5
    pixels = seen[ahead] @ view.intrinsic.T
    height, width = view.image.shape[:2]
    x, y = pixels[:, 0] / pixels[:, 2], pixels[:, 1] / pixels[:, 2]
    inside = np.zeros(len(points), bool)
    inside[ahead] = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return inside
