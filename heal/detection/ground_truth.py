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
    return GroundTruth(torch.from_numpy(upright[inside]).float(), torch.from_numpy(objects.ids[inside]))


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
