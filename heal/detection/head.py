"""The output of the detection heads."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class HeadOutput:
    """The output of the detection heads for B scenes: for every cell, for each of its A anchors.

    Attributes:
        classification: (B, A, ny, nx) logits.
        regression: (B, 7A, ny, nx), for every anchor in turn its seven codes (`heal.detection.targets.encode_boxes`).
        direction: (B, bins * A, ny, nx) logits, for every anchor in turn its direction bins.
    """

    classification: Tensor
    regression: Tensor
    direction: Tensor
