"""Detections and average precision in their plain form: all anchors are decoded, polygons are compared by shapely."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
import torch
from torch import Tensor

from heal.detection.decode import DecodeConfig
from heal.detection.detections import Detections, GroundTruth
from heal.detection.head import HeadOutput
from heal.types import Float64

SIGNS = ((1, -1, -1), (1, 1, -1), (-1, 1, -1), (-1, -1, -1), (1, -1, 1), (1, 1, 1), (-1, 1, 1), (-1, -1, 1))


def decode(head: HeadOutput, anchors: Tensor, config: DecodeConfig, range_m: Sequence[float]) -> Detections:
    """Compute the same as `DetectionHeads.decode` with anchors: the detections of one scene, the highest score first.

    Args:
        head: the head's output for one scene, in the ego's frame.
        anchors: (ny, nx, A, 7) x, y, z, h, w, l, yaw in metres and radians, in the ego's frame.
        config: thresholds and limits.
        range_m: x_min, y_min, z_min, x_max, y_max, z_max. Boxes that reach beyond it are dropped.
    """
    anchors = anchors.reshape(-1, 7).to(head.regression)
    scores = head.classification.permute(0, 2, 3, 1).reshape(-1).sigmoid()
    codes = head.regression.permute(0, 2, 3, 1).reshape(-1, 7)
    directions = head.direction.permute(0, 2, 3, 1).reshape(len(anchors), -1)
    corners = _corners(_boxes(codes, anchors, directions, config.direction_offset_rad))
    keep = (scores > config.score_threshold) & corners.isfinite().all(dim=2).all(dim=1)
    low, high = corners.amin(dim=1), corners.amax(dim=1)
    if config.max_extent_m is not None:
        keep &= (high[:, 0] - low[:, 0] <= config.max_extent_m) & (high[:, 1] - low[:, 1] <= config.max_extent_m)
    if config.z_limits_m is not None:
        keep &= (low[:, 2] >= config.z_limits_m[0]) & (high[:, 2] <= config.z_limits_m[1])
    corners, scores = corners[keep], scores[keep]
    best_first = scores.argsort(descending=True, stable=True)[: config.max_candidates]
    corners, scores = corners[best_first], scores[best_first]
    kept = torch.tensor(non_maximum_suppression(corners, config.nms_iou), dtype=torch.int64, device=corners.device)
    corners, scores = corners[kept], scores[kept]
    inside = (corners >= corners.new_tensor(range_m[:3])) & (corners <= corners.new_tensor(range_m[3:]))
    wholly = inside.all(dim=2).all(dim=1)
    return Detections(corners[wholly], scores[wholly])


def _boxes(codes: Tensor, anchors: Tensor, directions: Tensor, offset_rad: float) -> Tensor:
    """Decode the boxes of all N anchors, with the yaw in the sector that the direction head prefers.

    Args:
        codes: (N, 7) regression codes.
        anchors: (N, 7) x, y, z, h, w, l, yaw in metres and radians.
        directions: (N, bins) logits; each bin is a sector of the circle.
        offset_rad: yaw at which the first sector begins.

    Returns:
        (N, 7) x, y, z, h, w, l, yaw in metres and radians.
    """
    x, y, z, h, w, l, yaw = anchors.unbind(1)  # noqa: E741
    diagonal = torch.sqrt(l**2 + w**2)
    sector = 2 * math.pi / directions.shape[1]
    turned = torch.remainder(codes[:, 6] + yaw - offset_rad, sector) + offset_rad + sector * directions.argmax(dim=1)
    turned = torch.remainder(turned + math.pi, 2 * math.pi) - math.pi
    centre = [codes[:, 0] * diagonal + x, codes[:, 1] * diagonal + y, codes[:, 2] * h + z]
    size = [torch.exp(codes[:, 3]) * h, torch.exp(codes[:, 4]) * w, torch.exp(codes[:, 5]) * l]
    return torch.stack([*centre, *size, turned], dim=1)


def _corners(boxes: Tensor) -> Tensor:
    """Compute the corners (N, 8, 3) of boxes (N, 7) in the order of `heal.box_corners`, in the boxes' frame."""
    cos, sin = torch.cos(boxes[:, 6]), torch.sin(boxes[:, 6])
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    rotation = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], dim=1).view(-1, 3, 3)
    local = boxes.new_tensor(SIGNS) * boxes[:, None, [5, 4, 3]] / 2
    return local @ rotation.transpose(1, 2) + boxes[:, None, :3]


def non_maximum_suppression(corners: Tensor, iou_threshold: float) -> list[int]:
    """Drop each box whose IoU with a kept box of a higher score, seen from above, exceeds the threshold.

    Args:
        corners: (N, 8, 3) corners of the boxes, the highest score first.
        iou_threshold: largest allowed IoU of two kept boxes.

    Returns:
        Indices of the kept boxes in ascending order.
    """
    polygons, waiting = _polygons(corners[:, :4, :2]), np.arange(len(corners))
    kept: list[int] = []
    while len(waiting):
        best, waiting = int(waiting[0]), waiting[1:]
        kept.append(best)
        waiting = waiting[_iou(polygons[best], polygons[waiting]) <= iou_threshold]
    return kept


def rotated_iou(a: Tensor, b: Tensor) -> Tensor:
    """Compute the same as `heal.detection.rotated_iou.rotated_iou`: the IoU (N, M) of footprints (N, 4, 2) and (M, 4, 2)."""
    return torch.from_numpy(_iou(_polygons(a)[:, None], _polygons(b)[None])).to(a)


def average_precision(frames: Sequence[tuple[Detections, GroundTruth]], thresholds: Sequence[float]) -> dict[float, float]:
    """Compute the average precision over all frames for each IoU threshold, as `heal.detection.metrics` defines it.

    Args:
        frames: detections, the highest score first, and ground truth of each frame.
        thresholds: IoU from which a detection counts as true.
    """
    overlaps = [rotated_iou(found.corners[:, :4, :2], truth.corners[:, :4, :2]).tolist() for found, truth in frames]
    objects = sum(len(truth) for _, truth in frames)
    result = {}
    for threshold in thresholds:
        scored_hits: list[tuple[float, bool]] = []
        for (found, truth), overlap in zip(frames, overlaps, strict=True):
            scored_hits += zip(found.scores.tolist(), _true_positives(overlap, len(truth), threshold), strict=True)
        scored_hits.sort(key=lambda pair: -pair[0])
        result[threshold] = _area([hit for _, hit in scored_hits], objects)
    return result


def _true_positives(overlaps: Sequence[Sequence[float]], objects: int, threshold: float) -> list[bool]:
    """Match each detection to the free object with the highest IoU. Objects matched by a detection before it are not free.

    Args:
        overlaps: IoU of each detection, the highest score first, with each object.
        objects: number of objects in the frame.
        threshold: IoU from which a match counts.

    Returns:
        For each detection whether it matches an object.
    """
    free = set(range(objects))
    hits = []
    for row in overlaps:
        best, best_iou = -1, 0.0
        for index in sorted(free):
            if row[index] > best_iou:
                best, best_iou = index, row[index]
        hit = best >= 0 and best_iou >= threshold
        if hit:
            free.remove(best)
        hits.append(hit)
    return hits


def _area(hits: Sequence[bool], objects: int) -> float:
    """Compute the area under the precision-recall curve from all its points.

    Args:
        hits: for each detection, the highest score first, whether it matches an object.
        objects: number of objects in all frames.
    """
    curve, found = [], 0
    for count, hit in enumerate(hits, start=1):
        found += hit
        curve.append((found / max(objects, 1), found / count))
    area, best_precision, next_recall = 0.0, 0.0, 1.0
    for recall, precision in reversed([(0.0, 0.0), *curve]):
        area += (next_recall - recall) * best_precision
        best_precision, next_recall = max(best_precision, precision), recall
    return area


def _polygons(footprints: Tensor) -> npt.NDArray[Any]:
    """Convert footprints (N, 4, 2) to an array (N,) of polygons in float64."""
    polygons: npt.NDArray[Any] = shapely.polygons(footprints.double().cpu().numpy())
    return polygons


def _iou(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> Float64:
    """Compute intersection over union of the polygons in two arrays, which are broadcast; 0 if both polygons are empty."""
    common = shapely.area(shapely.intersection(a, b))
    union = shapely.area(a) + shapely.area(b) - common
    ious: Float64 = np.divide(common, union, out=np.zeros_like(union), where=union > 0)
    return ious
