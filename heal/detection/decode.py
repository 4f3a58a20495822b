"""From the head's output to detections: decode, settle the heading, drop the absurd, suppress duplicates, cut to the range."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from heal.config import config
from heal.detection.boxes import (
    YAW,
    H,
    L,
    W,
    X,
    Y,
    Z,
    boxes_to_corners,
    corners_within_extent,
    corners_within_heights,
    corners_within_range,
    limit_period,
    transform_corners,
)
from heal.detection.detections import Detections
from heal.detection.head import HeadOutput
from heal.detection.rotated_iou import nms_rotated


@config
class DecodeConfig:
    """What counts as a detection.

    Attributes:
        score_threshold: boxes that do not score more are dropped.
        nms_iou: of two boxes that overlap more, seen from above, the lower-scored one is dropped.
        max_candidates: only so many of the best boxes enter the suppression.
        direction_offset_rad: yaw at which the first direction bin begins; the same as in the loss.
        max_extent_m: boxes whose axis-aligned hull is longer in x or y are dropped as absurd; None keeps all. The default lets
            every road vehicle pass. HEAL's value, 6.0, drops every bus and truck that the labels hold.
        z_limits_m: boxes that reach below or above are dropped. HEAL's value is (-3.0, 1.0) for every data set; by default the
            range alone decides, in height too.
    """

    score_threshold: float = 0.2
    nms_iou: float = 0.15
    max_candidates: int = 1000
    direction_offset_rad: float = 0.7853
    max_extent_m: float | None = 25.0
    z_limits_m: tuple[float, float] | None = None


def decode(head: HeadOutput, anchors: Tensor, config: DecodeConfig, gt_range_m: Sequence[float]) -> Detections:
    """The detections of one scene.

    Args:
        head: the head's output for one scene, in the ego's frame.
        anchors: (ny, nx, A, 7) in the ego's frame.
        config: thresholds.
        gt_range_m: x_min, y_min, z_min, x_max, y_max, z_max; boxes that stick out of it are dropped.

    Returns:
        Detections in the ego's frame, best first.
    """
    return select_detections(*decode_candidates(head, anchors, config), config, gt_range_m)


def decode_late(
    heads: Sequence[HeadOutput],
    anchors: Sequence[Tensor],
    ego_SE3_agents: Sequence[Tensor],
    config: DecodeConfig,
    gt_range_m: Sequence[float],
) -> Detections:
    """Late fusion: the detections that several agents make on their own, as one set.

    Args:
        heads: each agent's output for one scene, in its own frame.
        anchors: each agent's, (ny, nx, A, 7), in its own frame.
        ego_SE3_agents: each agent's (4, 4) pose in the ego's frame.
        config: thresholds.
        gt_range_m: as in `decode`.

    Returns:
        Detections in the ego's frame, best first.
    """
    corners, scores = [], []
    for head, own_anchors, ego_SE3_agent in zip(heads, anchors, ego_SE3_agents, strict=True):
        agent_corners, agent_scores = decode_candidates(head, own_anchors, config)
        corners.append(transform_corners(ego_SE3_agent.to(agent_corners), agent_corners))
        scores.append(agent_scores)
    return select_detections(torch.cat(corners), torch.cat(scores), config, gt_range_m)


def decode_candidates(head: HeadOutput, anchors: Tensor, config: DecodeConfig) -> tuple[Tensor, Tensor]:
    """All boxes of one scene that score enough, duplicates included.

    Returns:
        corners: (K, 8, 3) float32 in the frame of the anchors, metres; on their device.
        scores: (K,) float32, there too.

    Raises:
        ValueError: if `head` holds several scenes or does not fit the anchors.
    """
    ny, nx, count, _ = anchors.shape
    if head.classification.shape != (1, count, ny, nx):
        raise ValueError(
            f"decode: expected the head's output for one scene, (1, {count}, {ny}, {nx}) to go with the anchors, "
            f"got {tuple(head.classification.shape)}"
        )
    scores = head.classification[0].permute(1, 2, 0).float().sigmoid()  # (ny, nx, A)
    # A thousand anchors out of a hundred thousand: only their codes are read, and brought to where the anchors are.
    row, column, anchor = (scores > config.score_threshold).nonzero(as_tuple=True)
    of_head = [part[0].reshape(count, -1, ny, nx)[anchor, :, row, column].float() for part in (head.regression, head.direction)]
    found = (*of_head, scores[row, column, anchor], row, column, anchor)
    codes, directions, scores, row, column, anchor = (part.to(anchors.device) for part in found)
    boxes = decode_boxes(codes, anchors[row, column, anchor].to(codes))
    boxes[:, YAW] = settle_yaw(boxes[:, YAW], directions, config.direction_offset_rad)
    return boxes_to_corners(boxes), scores


def select_detections(corners: Tensor, scores: Tensor, config: DecodeConfig, gt_range_m: Sequence[float]) -> Detections:
    """The candidates (K, 8, 3) with scores (K,) that are sensible, no duplicates, and wholly inside the range."""
    sensible = corners.isfinite().flatten(1).all(dim=1)  # the exponentials of an untrained head overflow
    if config.max_extent_m is not None:
        sensible &= corners_within_extent(corners, config.max_extent_m)
    if config.z_limits_m is not None:
        sensible &= corners_within_heights(corners, config.z_limits_m)
    corners, scores = corners[sensible], scores[sensible]
    kept = nms_rotated(corners, scores, config.nms_iou, config.max_candidates)
    kept = kept[corners_within_range(corners[kept], gt_range_m)]
    return Detections(corners[kept], scores[kept])


def decode_boxes(codes: Tensor, anchors: Tensor) -> Tensor:
    """Boxes (..., 7) from codes and anchors, both (..., 7); the inverse of `heal.detection.targets.encode_boxes`."""
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
    """Turn boxes, whose yaw is known up to whole sectors, into the sector that the direction head prefers.

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
