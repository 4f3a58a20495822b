"""The guard of the ego's own boxes: which boxes that the ego is sure of a fused result has lost, and how they are put back.

The rule, its guarantee and its limits are described in docs/guard.md.
"""

from __future__ import annotations

import torch
from torch import Tensor

from heal.config import config
from heal.detection.detections import Detections
from heal.detection.metrics import bev_overlaps
from heal.errors import UserError

_FEWEST = 2  # a single box says too little about a sender


@config
class GuardConfig:
    """Settings of the guard.

    Attributes:
        score: the ego is confident of its boxes with a score above this.
        share: the maps that are fused must keep this share of two confident boxes or more, or senders are left out.
        suspicion: factor on the weight of a sender in later ticks, each time that it has been left out.
        forgive_ms: time in which suspicion falls by half: after it, two times count as one.
    """

    score: float = 0.5
    share: float = 0.75
    suspicion: float = 0.1
    forgive_ms: float = 2000.0

    def __post_init__(self) -> None:
        """Check that the settings are in their ranges."""
        if not (0 <= self.score < 1 and 0 <= self.share <= 1):
            raise UserError(f"guard: expected 0 <= score < 1 and 0 <= share <= 1, got {self}")
        if not (0 < self.suspicion <= 1 and self.forgive_ms > 0):
            raise UserError(f"guard: expected 0 < suspicion <= 1 and forgive_ms > 0, got {self}")


def confident_boxes(alone: Detections, settings: GuardConfig) -> Detections:
    """Return the boxes of the ego alone that it is confident of, best first."""
    return alone.select(alone.scores > settings.score)


def kept_boxes(confident: Detections, fused: Detections, nms_iou: float) -> Tensor:
    """Return which confident boxes (N,) a fused box overlaps by more than `nms_iou` in bird's-eye view; bool. The others are lost.

    At this overlap the suppression of duplicates takes two boxes of a class for one object. A box of another class keeps nothing.
    """
    return (bev_overlaps(confident, fused) > nms_iou).any(dim=1)


def keeps_enough(kept: Tensor, settings: GuardConfig) -> bool:
    """Return whether a fusion that keeps these confident boxes (N,) bool needs no sender left out."""
    return len(kept) < _FEWEST or int(kept.sum()) >= settings.share * len(kept)


def put_back(lost: Detections, fused: Detections) -> Detections:
    """Add confident boxes that the fused boxes have lost, each with its own score; no fused box has to make room for them."""
    if not len(lost):
        return fused
    both = (torch.cat(parts) for parts in zip(*((one.corners, one.scores, one.classes) for one in (fused, lost)), strict=True))
    return Detections.sorted(*both)
