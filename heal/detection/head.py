"""The detection head: a shrinking of the fused map and three 1x1 convolutions over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn


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


class _DoubleConvolution(nn.Module):
    def __init__(self, in_channels: int, channels: int, size: int, stride: int) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(in_channels, channels, size, stride, padding=size // 2),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.double_conv(x)
        return y


class Shrink(nn.Module):
    """Pairs of convolutions that bring the joined scales to the width that the heads work on."""

    def __init__(self, in_channels: int, channels: Sequence[int], sizes: Sequence[int], strides: Sequence[int]) -> None:
        """One pair for every entry."""
        super().__init__()
        widths = [in_channels, *channels]
        self.layers = nn.Sequential(
            *(_DoubleConvolution(widths[i], widths[i + 1], sizes[i], strides[i]) for i in range(len(channels)))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, ny, nx) to (B, channels[-1], ...)."""
        y: Tensor = self.layers(x)
        return y
