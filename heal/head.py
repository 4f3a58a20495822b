"""The detection head: three 1x1 convolutions over the fused map."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class HeadOutput:
    """What the head says about B scenes, for every cell and each of its A anchors.

    Attributes:
        classification: (B, A, ny, nx) logits.
        regression: (B, 7A, ny, nx), for every anchor in turn its seven codes.
        direction: (B, bins * A, ny, nx) logits, for every anchor in turn its direction bins.
    """

    classification: Tensor
    regression: Tensor
    direction: Tensor
