"""Pairs of convolutions that reduce the channels of a map: behind a fusion for the heads, or behind an agent's backbone."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from heal.config import config


@config
class ShrinkConfig:
    """Settings of `Shrink`, one entry for each pair of convolutions.

    Attributes:
        channels: output channels.
        sizes: kernel size of the first convolution.
        strides: stride of the first convolution.
    """

    channels: tuple[int, ...] = (256,)
    sizes: tuple[int, ...] = (3,)
    strides: tuple[int, ...] = (1,)


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
    """Pairs of convolutions that reduce a map to the channels that others read, such as the joined scales of a pyramid."""

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
