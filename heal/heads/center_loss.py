"""The loss of centre heads: penalty-reduced focal loss of the heatmap, and L1 of the codes in the cells of centres.

Law and Deng, "CornerNet", ECCV 2018, equation 1; Yin et al. 2021, section 4.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from heal.detection.boxes import bottom_rectangles, boxes_to_corners
from heal.detection.head import HeadOutput
from heal.detection.loss import DetectionLoss, LossConfig, at_least
from heal.detection.rotated_iou import paired_iou
from heal.grid import BevGrid
from heal.heads.center_targets import CenterTargets, decode_centers

# Exponent by which cells near a centre count less than other cells that are no centre.
_NEARNESS = 4


def center_loss(
    head: HeadOutput, targets: CenterTargets, config: LossConfig, grid: BevGrid, counts: Tensor | None = None
) -> DetectionLoss:
    """Compute the loss of the output for B scenes, the mean over the scenes.

    Args:
        head: the output for B scenes; where it predicts overlaps, they are taught too, as part of the classification.
        targets: the targets of the same scenes.
        config: weights of the parts; the codes of the yaw have the weight of the other codes.
        grid: of the maps.
        counts: (B,) float32, what the losses of each scene are divided by; None for the centres of the targets.

    Returns:
        The parts, float32 scalars; finite even without any centre.
    """
    scenes, counts = len(targets.centres), at_least(targets.positives, config) if counts is None else counts
    focal = heatmap_loss(head.classification[:, 0], targets, config.focal_gamma)
    classification = (focal.flatten(1).sum(dim=1) / counts).mean()
    scene, row, column = targets.centres.nonzero(as_tuple=True)
    weight = (1.0 / counts)[scene] / scenes
    wanted = targets.regression[scene, row, column]
    maps = torch.cat((head.regression, head.direction), dim=1)
    found = maps.permute(0, 2, 3, 1)[scene, row, column].float()
    codes = torch.cat((found[:, :6], found[:, -4:]), dim=1)
    if head.regression.shape[1] > 6:
        overlap = _overlaps(codes.detach(), wanted, torch.stack((column, row), dim=1), grid)
        entropy = functional.binary_cross_entropy_with_logits(found[:, 6], overlap, reduction="none")
        classification = classification + (entropy * weight).sum()
    classification = classification * config.classification_weight
    errors = (codes - wanted).abs() * weight[:, None] * config.regression_weight
    regression, direction = errors[:, :6].sum(), errors[:, 6:].sum()
    return DetectionLoss(classification + regression + direction, classification, regression, direction)


def heatmap_loss(logits: Tensor, targets: CenterTargets, gamma: float) -> Tensor:
    """Compute the focal loss of each cell of heatmaps (B, ny, nx), float32; 0 in cells that do not count."""
    logits = logits.float()
    centre = (1 - logits.sigmoid()) ** gamma * functional.softplus(-logits)
    other = (1 - targets.heatmap) ** _NEARNESS * logits.sigmoid() ** gamma * functional.softplus(logits)
    loss = torch.where(targets.centres, centre, other)
    return loss.where(targets.counted, torch.zeros_like(loss))


def _overlaps(codes: Tensor, wanted: Tensor, cells: Tensor, grid: BevGrid) -> Tensor:
    """Return the overlap in bird's-eye view of the boxes of codes (K, 10) with those of wanted codes in the same cells; (K,)."""
    footprints = (bottom_rectangles(boxes_to_corners(decode_centers(part, cells, grid))) for part in (codes, wanted))
    return paired_iou(*footprints).nan_to_num(0.0).clamp(0, 1).float()
