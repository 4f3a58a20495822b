"""From the head's output to detections: decode boxes, choose headings, drop impossible boxes and duplicates, cut to the range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from heal.box_corners import YAW, H, L, W, X, Y, Z
from heal.config import config
from heal.detection.boxes import (
    boxes_to_corners,
    corners_within_extent,
    corners_within_heights,
    corners_within_range,
    limit_period,
)
from heal.detection.detections import Detections
from heal.detection.head import HeadOutput
from heal.detection.rotated_iou import nms_rotated


@config
class DecodeConfig:
    """Thresholds for detections.

    Attributes:
        score_threshold: boxes must score more than this.
        nms_iou: of two boxes of a class that overlap more than this in bird's-eye view, the lower-scored box is dropped.
        max_candidates: number of best boxes that enter the suppression of duplicates.
        direction_offset_rad: yaw at which the first direction bin begins; the same as in the loss.
        max_extent_m: boxes whose axis-aligned hull is longer than this in x or y are dropped; None keeps all boxes. The default
            keeps every road vehicle. HEAL's value, 6.0, drops the buses and trucks that the labels contain.
        z_limits_m: boxes that reach below the first or above the second height are dropped. HEAL uses (-3.0, 1.0) for every data
            set; by default only the range limits the height.
    """

    score_threshold: float = 0.2
    nms_iou: float = 0.15
    max_candidates: int = 1000
    direction_offset_rad: float = 0.7853
    max_extent_m: float | None = 25.0
    z_limits_m: tuple[float, float] | None = None


class Candidates(NamedTuple):
    """Boxes that the heads have found in one scene, duplicates included.

    Attributes:
        boxes: (K, 7) float32 x, y, z, h, w, l, yaw, metres and radians.
        scores: (K,) float32.
        classes: (K,) int64, number of each box's class among those of the base.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor


def decode_candidates(head: HeadOutput, anchors: Tensor, config: DecodeConfig) -> Candidates:
    """Decode all boxes of one scene and one class that score more than the threshold, duplicates included.

    Args:
        head: the output of anchor heads for one scene and one class, in the ego's frame.
        anchors: (ny, nx, A, 7) of the class, in the ego's frame.
        config: thresholds.

    Returns:
        The boxes, of class 0, in the frame of the anchors and on their device.

    Raises:
        ValueError: `head` holds several scenes or does not fit the anchors.
    """
    ny, nx, count, _ = anchors.shape
    if head.classification.shape != (1, count, ny, nx):
        raise ValueError(
            f"decode: expected the head's output for one scene, (1, {count}, {ny}, {nx}) to go with the anchors, "
            f"got {tuple(head.classification.shape)}"
        )
    scores = head.classification[0].permute(1, 2, 0).float().sigmoid()  # (ny, nx, A)
    # Few anchors score enough (a thousand of a hundred thousand): only their codes are read and moved to the anchors' device.
    row, column, anchor = (scores > config.score_threshold).nonzero(as_tuple=True)
    found_codes = [part[0].reshape(count, -1, ny, nx)[anchor, :, row, column].float() for part in (head.regression, head.direction)]
    found = (*found_codes, scores[row, column, anchor], row, column, anchor)
    codes, directions, scores, row, column, anchor = (part.to(anchors.device) for part in found)
    boxes = decode_boxes(codes, anchors[row, column, anchor].to(codes))
    boxes[:, YAW] = settle_yaw(boxes[:, YAW], directions, config.direction_offset_rad)
    return Candidates(boxes, scores, torch.zeros_like(row))


def select_boxes(boxes: Tensor, scores: Tensor, classes: Tensor, config: DecodeConfig, gt_range_m: Sequence[float]) -> Detections:
    """Return what `select_detections` does, from boxes (K, 7) in the ego's frame."""
    return select_detections(boxes_to_corners(boxes), scores, classes, config, gt_range_m)


def select_detections(
    corners: Tensor, scores: Tensor, classes: Tensor, config: DecodeConfig, gt_range_m: Sequence[float]
) -> Detections:
    """Return the candidates that are possible, no duplicates, and wholly inside a range.

    Args:
        corners: (K, 8, 3) metres in the ego's frame.
        scores: (K,).
        classes: (K,) int64; boxes of different classes are no duplicates.
        config: thresholds.
        gt_range_m: x_min, y_min, z_min, x_max, y_max, z_max; boxes that are not wholly inside are dropped.

    Returns:
        Detections in the ego's frame, best first.
    """
    possible = corners.isfinite().flatten(1).all(dim=1)  # the exponentials of an untrained head overflow
    if config.max_extent_m is not None:
        possible &= corners_within_extent(corners, config.max_extent_m)
    if config.z_limits_m is not None:
        possible &= corners_within_heights(corners, config.z_limits_m)
    corners, scores, classes = corners[possible], scores[possible], classes[possible]
    kept = nms_rotated(corners, scores, config.nms_iou, config.max_candidates, classes)
    kept = kept[corners_within_range(corners[kept], gt_range_m)]
    return Detections(corners[kept], scores[kept], classes[kept])


def decode_boxes(codes: Tensor, anchors: Tensor) -> Tensor:
    """Compute boxes (..., 7) from codes and anchors, both (..., 7); the inverse of `heal.detection.targets.encode_boxes`."""
    diagonal = anchors[..., L].hypot(anchors[..., W])
    return torch.stack(
        (
            codes[..., X] * diagonal + anchors[..., X],
            codes[..., Y] * diagonal + anchors[..., Y],
            codes[..., Z] * anchors[..., H] + anchors[..., Z],
            codes[..., H].exp() * anchors[..., H],
            codes[..., W].exp() * anchors[..., W],
            codes[..., L].exp() * anchors[..., L],
            codes[..., YAW] + anchors[..., YAW],
        ),
        dim=-1,
    )


def settle_yaw(yaw: Tensor, direction: Tensor, offset_rad: float) -> Tensor:
    """Turn yaws, which are known up to whole sectors, into the sector that the direction head prefers.

    Args:
        yaw: (K,) radians.
        direction: (K, bins) logits.
        offset_rad: yaw at which the first sector begins.

    Returns:
        (K,) radians in [-pi, pi), up to rounding.
    """
    sector = 2 * math.pi / direction.shape[1]
    within = limit_period(yaw - offset_rad, offset=0.0, period=sector)
    return limit_period(within + offset_rad + sector * direction.argmax(dim=1).to(yaw))
