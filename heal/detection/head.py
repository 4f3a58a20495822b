"""The output of the detection heads, and the convolutions that shrink the fused map for the heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn


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


class _DoubleConvolution(nn.Module):
    """Two convolutions with ReLU; only the first has a stride."""

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
    """Pairs of convolutions that reduce the joined scales of the pyramid to the channels that the heads read."""

    def __init__(self, in_channels: int, channels: Sequence[int], sizes: Sequence[int], strides: Sequence[int]) -> None:
        """Make one pair of convolutions for every entry of `channels`, `sizes` and `strides`."""
        super().__init__()
        widths = [in_channels, *channels]
        self.layers = nn.Sequential(
            *(_DoubleConvolution(widths[i], widths[i + 1], sizes[i], strides[i]) for i in range(len(channels)))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Shrink maps (B, in_channels, ny, nx) to (B, channels[-1], ny / s, nx / s), s being the product of the strides."""
        y: Tensor = self.layers(x)
        return y
