"""A U-shaped aligner: layers at three scales, each modulated by the aligner's input."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from heal.config import config
from heal.errors import UserError

_GROUPS = 8


@config
class FanetAlignerConfig:
    """Settings of five modulated layers, at the scales 1, 1/2, 1/4, 1/2, 1; the number of channels is a multiple of eight."""

    kind: Literal["fanet"] = "fanet"


class ConvolutionBlock(nn.Module):
    """A grouped 3x3 convolution between two 1x1 convolutions."""

    def __init__(self, in_channels: int, channels: int) -> None:
        """Make the layers; the last convolution changes the number of channels."""
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(in_channels, in_channels, 1),
            nn.ReLU(),
            nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=_GROUPS),
            nn.ReLU(),
            nn.Conv2d(in_channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, ny, nx) to (N, channels, ny, nx)."""
        y: Tensor = self.model(x)
        return y


class ModulatedLayer(nn.Module):
    """A block whose output is scaled and shifted, cell by cell; scale and shift are computed from a second map, the condition."""

    def __init__(self, in_channels: int, channels: int, condition_channels: int) -> None:
        """Make the layers for an input of `in_channels`, an output of `channels` and a condition of `condition_channels`."""
        super().__init__()
        self.conv1 = nn.Conv2d(condition_channels, condition_channels, 1)
        self.conv2, self.conv3 = (nn.Conv2d(condition_channels, channels, 1) for _ in range(2))
        self.arblock = ConvolutionBlock(in_channels, channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map (N, in_channels, ny, nx) to (N, channels, ny, nx); the condition is as large as `x` or larger."""
        hidden = F.relu(self.conv1(F.adaptive_max_pool2d(condition, x.shape[-2:])))
        modulated: Tensor = self.conv2(hidden) * self.arblock(x) + self.conv3(hidden)
        return modulated


class FanetAligner(nn.Module):
    """Modulated layers down to a quarter of the map's size and back up, with additions across."""

    def __init__(self, settings: FanetAlignerConfig, channels: int) -> None:
        """Make the layers for maps of `channels` channels; ValueError unless these are a multiple of eight."""
        super().__init__()
        if channels % _GROUPS:
            raise UserError(f"fanet aligner: needs a multiple of {_GROUPS} channels, got {channels}")
        self.falayer1 = ModulatedLayer(channels, channels, channels)
        self.falayer2 = ModulatedLayer(channels, 2 * channels, channels)
        self.falayer3 = ModulatedLayer(2 * channels, 4 * channels, channels)
        self.falayer4 = ModulatedLayer(4 * channels, 2 * channels, channels)
        self.falayer5 = ModulatedLayer(2 * channels, channels, channels)
        self.skip_conv1 = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.skip_conv2 = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, ny, nx) to the same shape."""
        # The condition is a constant: no gradient reaches the backbone through it.
        condition = x.detach()
        fine = self.falayer1(x, condition)
        middle = self.falayer2(F.max_pool2d(fine, 2), condition)
        coarse = self.falayer3(F.max_pool2d(middle, 2), condition)
        y = self.falayer4(_enlarge(coarse, middle), condition) + self.skip_conv1(middle)
        z: Tensor = self.falayer5(_enlarge(y, fine), condition) + self.skip_conv2(fine)
        return z


def _enlarge(x: Tensor, like: Tensor) -> Tensor:
    """Enlarge a map to the size of another map, bilinearly."""
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)
