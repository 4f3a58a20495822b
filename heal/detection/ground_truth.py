"""Labels to ground truth: world corners into the frame of evaluation, fitted as upright boxes, cut to a range, merged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from heal.detection.boxes import bottom_rectangles, boxes_around_origin, boxes_to_corners, corners_to_boxes, corners_within_range
from heal.detection.detections import GroundTruth
from heal.detection.rotated_iou import rotated_iou
from heal.se3 import inverse_SE3, transform_points
from heal.types import AgentFrame, Float64, ObjectLabels, Scene, UInt8

VISIBILITY_CELL_M = 0.39


def ground_truth(
    scene: Scene,
    range_m: Sequence[float],
    *,
    world_SE3_frame: Float64 | None = None,
    use_z: bool = True,
    include_ego: bool = True,
) -> GroundTruth:
    """What is to be found in a scene, from true poses.

    Args:
        scene: whose objects, labelled by whichever agent, are meant.
        range_m: x_min, y_min, z_min, x_max, y_max, z_max; an object counts if all its corners are inside.
        world_SE3_frame: (4, 4) the frame of evaluation, by default the ego's.
        use_z: test the height too; the rule for DAIR-V2X tests x and y alone.
        include_ego: keep the ego's own vehicle where another agent has labelled it, as OPV2V's evaluation does.
    """
    frame = scene.outline.world_SE3_ego if world_SE3_frame is None else world_SE3_frame
    objects = scene.objects if include_ego else without_vehicle_at(scene.objects, scene.outline.world_SE3_ego)
    return objects_in_frame(objects, frame, range_m, use_z)


def agent_ground_truth(frame: AgentFrame, range_m: Sequence[float], *, use_z: bool = True) -> GroundTruth:
    """What one agent is to find alone: its own labels in the frame in which it believes itself to be."""
    return objects_in_frame(frame.objects, frame.world_SE3_agent_measured, range_m, use_z)


def objects_in_frame(objects: ObjectLabels, world_SE3_frame: Float64, range_m: Sequence[float], use_z: bool = True) -> GroundTruth:
    """Objects fitted as upright boxes in a frame; those with all eight corners inside the range."""
    corners = torch.from_numpy(transform_points(inverse_SE3(world_SE3_frame), objects.world_corners))
    upright = boxes_to_corners(corners_to_boxes(corners))
    inside = corners_within_range(upright, range_m, use_z=use_z)
    return GroundTruth(upright[inside].float(), torch.from_numpy(objects.ids)[inside])


def without_vehicle_at(objects: ObjectLabels, world_SE3_agent: Float64) -> ObjectLabels:
    """All objects but the one in or on which an agent's sensor is mounted: the one with the origin inside its footprint."""
    corners = torch.from_numpy(transform_points(inverse_SE3(world_SE3_agent), objects.world_corners))
    keep = ~boxes_around_origin(corners_to_boxes(corners)).numpy()
    return ObjectLabels(objects.ids[keep], objects.world_corners[keep])


def objects_within(objects: ObjectLabels, world_SE3_agent: Float64, range_m: Sequence[float]) -> ObjectLabels:
    """The objects with all corners inside a range in an agent's frame."""
    inside = objects_in_frame(objects, world_SE3_agent, range_m).ids.numpy()
    keep = np.isin(objects.ids, inside)
    return ObjectLabels(objects.ids[keep], objects.world_corners[keep])


def visible_objects(objects: ObjectLabels, visibility_map: UInt8, world_SE3_agent: Float64) -> ObjectLabels:
    """The objects whose centre lies on a marked pixel of an agent's map of what its cameras see.

    Args:
        objects: labels.
        visibility_map: (H, W) seen from above, the agent in the middle, rows against x, columns along y, 0.39 m a pixel.
        world_SE3_agent: (4, 4) the agent's true pose.
    """
    corners = torch.from_numpy(transform_points(inverse_SE3(world_SE3_agent), objects.world_corners))
    centre = corners_to_boxes(corners)[:, :2].numpy() / VISIBILITY_CELL_M
    height, width = visibility_map.shape
    row = height // 2 - 1 - np.trunc(centre[:, 0]).astype(np.int64)
    column = width // 2 - 1 + np.trunc(centre[:, 1]).astype(np.int64)
    on_map = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    keep = on_map & (visibility_map[row.clip(0, height - 1), column.clip(0, width - 1)] > 0)
    return ObjectLabels(objects.ids[keep], objects.world_corners[keep])


def merge_by_id(parts: Sequence[GroundTruth]) -> GroundTruth:
    """All objects of several parties in one frame; of several with one id the first is kept."""
    ids = torch.cat([part.ids for part in parts])
    _, first = np.unique(ids.numpy(), return_index=True)
    keep = torch.from_numpy(np.sort(first))
    return GroundTruth(torch.cat([part.corners for part in parts])[keep], ids[keep])


def merge_by_iou(parts: Sequence[GroundTruth], max_iou: float = 0.05) -> GroundTruth:
    """All objects of several parties in one frame that number them independently, as the two sides of DAIR-V2X do.

    Of the first party all are kept, of every further one those that overlap nothing kept so far by more than `max_iou`. The ids
    are new: 0, 1, ...
    """
    corners = parts[0].corners
    for part in parts[1:]:
        corners = torch.cat([corners, part.corners[_clear_of(corners, part.corners, max_iou)]])
    return GroundTruth(corners, torch.arange(len(corners)))


def _clear_of(kept: Tensor, others: Tensor, max_iou: float) -> Tensor:
    if not len(kept):
        return torch.ones(len(others), dtype=torch.bool)
    overlaps = rotated_iou(bottom_rectangles(others), bottom_rectangles(kept))
    return (overlaps <= max_iou).all(dim=1)
