"""The output of the detection heads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class HeadOutput:
    """The output of the detection heads for B scenes: for every cell, for each of its A anchors, or for one box of centre heads.

    The numbers below are those of one class. The channels of several classes follow one another, in each of the three maps.

    Attributes:
        classification: (B, A, ny, nx) logits; of centre heads (B, 1, ny, nx), the heatmap.
        regression: (B, 7A, ny, nx), for every anchor in turn its seven codes (`heal.detection.targets.encode_boxes`); of centre
            heads (B, 6, ny, nx), the first six codes of `heal.heads.center_targets.encode_centers`, or (B, 7, ny, nx) with a logit
            of the overlap with the true box.
        direction: (B, bins * A, ny, nx) logits, for every anchor in turn its direction bins; of centre heads (B, 4, ny, nx), the
            last four codes.
    """

    classification: Tensor
    regression: Tensor
    direction: Tensor

    def by_class(self, classes: int) -> list[HeadOutput]:
        """Divide the output of heads for so many classes; views of the channels of each class."""
        if classes == 1:
            return [self]
        parts = (torch.chunk(part, classes, dim=1) for part in (self.classification, self.regression, self.direction))
        return [HeadOutput(*one) for one in zip(*parts, strict=True)]
