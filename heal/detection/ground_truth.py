"""From labels to ground truth: world corners moved into a frame, fitted as upright boxes, cut to a range, merged."""

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

# Edge of a pixel of OPV2V's maps of camera visibility.
VISIBILITY_CELL_M = 0.39


def ground_truth(scene: Scene, range_m: Sequence[float], *, include_ego: bool = True) -> GroundTruth:
    """Return the objects to detect in a scene, in the frame of the ego's true pose.

    Args:
        scene: the scene; the labels of all agents count.
        range_m: x_min, y_min, z_min, x_max, y_max, z_max; an object counts if all its corners are inside.
        include_ego: keep the ego's own vehicle where another agent has labelled it, as OPV2V's evaluation does.
    """
    world_SE3_ego = scene.outline.world_SE3_ego
    objects = scene.objects if include_ego else without_vehicle_at(scene.objects, world_SE3_ego)
    return objects_in_frame(objects, world_SE3_ego, range_m)


def agent_ground_truth(frame: AgentFrame, range_m: Sequence[float]) -> GroundTruth:
    """Return the objects that one agent has to detect alone: its own labels, in the frame of its measured pose."""
    return objects_in_frame(frame.objects, frame.world_SE3_agent_measured, range_m)


def objects_in_frame(objects: ObjectLabels, world_SE3_frame: Float64, range_m: Sequence[float], use_z: bool = True) -> GroundTruth:
    """Fit objects as upright boxes in a frame, and keep the boxes with all eight corners inside a range.

    Args:
        objects: the objects.
        world_SE3_frame: (4, 4) the frame of the result.
        range_m: x_min, y_min, z_min, x_max, y_max, z_max in that frame.
        use_z: test the height too; the rule of DAIR-V2X tests only x and y.
    """
    corners = torch.from_numpy(transform_points(inverse_SE3(world_SE3_frame), objects.world_corners))
    upright = boxes_to_corners(corners_to_boxes(corners))
    inside = corners_within_range(upright, range_m, use_z=use_z)
    return GroundTruth(upright[inside].float(), torch.from_numpy(objects.ids)[inside])


def without_vehicle_at(objects: ObjectLabels, world_SE3_agent: Float64) -> ObjectLabels:
    """Drop the vehicle that carries an agent's sensor: the object with the origin of the agent's frame inside its footprint."""
    corners = torch.from_numpy(transform_points(inverse_SE3(world_SE3_agent), objects.world_corners))
    keep = ~boxes_around_origin(corners_to_boxes(corners)).numpy()
    return ObjectLabels(objects.ids[keep], objects.world_corners[keep])


def objects_within(objects: ObjectLabels, world_SE3_agent: Float64, range_m: Sequence[float]) -> ObjectLabels:
    """Return the objects with all corners inside a range in an agent's frame."""
    inside = objects_in_frame(objects, world_SE3_agent, range_m).ids.numpy()
    keep = np.isin(objects.ids, inside)
    return ObjectLabels(objects.ids[keep], objects.world_corners[keep])


def visible_objects(objects: ObjectLabels, visibility_map: UInt8, world_SE3_agent: Float64) -> ObjectLabels:
    """Return the objects whose centre lies on a marked pixel of an agent's map of camera visibility.

    Args:
        objects: the labels.
        visibility_map: (H, W) bird's-eye view, not 0 where a camera sees; the agent in the middle, rows along -x, columns along +y,
            0.39 m a pixel.
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


def merge_by_iou(parts: Sequence[GroundTruth], max_iou: float = 0.05) -> GroundTruth:
    """Merge the objects of several agents in one frame whose ids are independent, as those of the two sides of DAIR-V2X are.

    All objects of the first agent are kept. An object of another agent is kept if it overlaps no kept object by more than
    `max_iou`. The merged objects get new ids: 0, 1, ...
    """
    corners = parts[0].corners
    for part in parts[1:]:
        corners = torch.cat([corners, part.corners[_without_overlap(corners, part.corners, max_iou)]])
    return GroundTruth(corners, torch.arange(len(corners)))


def _without_overlap(kept: Tensor, others: Tensor, max_iou: float) -> Tensor:
    """Return which boxes (M, 8, 3) of `others` overlap no box (N, 8, 3) of `kept` by more than `max_iou`; (M,) bool."""
    if not len(kept):
        return torch.ones(len(others), dtype=torch.bool)
    overlaps = rotated_iou(bottom_rectangles(others), bottom_rectangles(kept))
    return (overlaps <= max_iou).all(dim=1)
