"""From labels to ground truth: world corners moved into a frame, fitted as upright boxes, cut to a range, merged."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from heal.box_corners import boxes_to_corners, corners_within_range
from heal.detection.boxes import bottom_rectangles
from heal.detection.detections import GroundTruth
from heal.detection.label_filters import boxes_in_frame, without_vehicle_at
from heal.detection.rotated_iou import rotated_iou
from heal.types import AgentFrame, Float64, ObjectLabels, Scene


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
    upright = boxes_to_corners(boxes_in_frame(objects, world_SE3_frame))
    inside = corners_within_range(upright, range_m, use_z=use_z)
    kept = objects.select(inside)
    return GroundTruth(torch.from_numpy(upright[inside]).float(), torch.from_numpy(kept.ids), torch.from_numpy(kept.classes))


def merge_by_iou(parts: Sequence[ObjectLabels], world_SE3_frame: Float64, max_iou: float = 0.05) -> ObjectLabels:
    """Merge the labels of agents that number their objects independently, as the two sides of DAIR-V2X do.

    All objects of the first agent are kept. An object of another agent is kept if it overlaps no object kept before by more than
    `max_iou`.

    Args:
        parts: the labels of each agent; an id stands for one object of one agent.
        world_SE3_frame: (4, 4) the frame in which boxes are upright and overlaps are measured, that of the ego.
        max_iou: the largest overlap of rotated boxes seen from above, as intersection over union.
    """
    kept = parts[0]
    for part in parts[1:]:
        new = _without_overlap(_rectangles(kept, world_SE3_frame), _rectangles(part, world_SE3_frame), max_iou)
        kept = ObjectLabels.union([kept, part.select(new.numpy())])
    return kept


def _rectangles(objects: ObjectLabels, world_SE3_frame: Float64) -> Tensor:
    """Return the upright boxes of objects in a frame, seen from above."""
    return bottom_rectangles(torch.from_numpy(boxes_to_corners(boxes_in_frame(objects, world_SE3_frame))).float())


def _without_overlap(kept: Tensor, others: Tensor, max_iou: float) -> Tensor:
    """Return which rectangles of `others` (M, ...) overlap no rectangle of `kept` (N, ...) by more than `max_iou`; (M,) bool."""
    if not len(kept):
        return torch.ones(len(others), dtype=torch.bool)
    return (rotated_iou(others, kept) <= max_iou).all(dim=1)
