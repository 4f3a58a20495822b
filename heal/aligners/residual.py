"""Aligners of residual blocks: convolutions (He et al.), linear layers per cell, convolutions with attention (Woo et al.)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heal.aligners.blocks import BlockAligner
from heal.config import config
from heal.errors import UserError


@config
class ResidualAlignerConfig:
    """Settings of residual blocks of two convolutions.

    Attributes:
        kind: names this aligner and its kernels; with 1x1 kernels each cell is aligned on its own.
        blocks: number of blocks in a row.
    """

    kind: Literal["resnet1x1", "resnet3x3"] = "resnet3x3"
    blocks: int = 3


@config
class CellAlignerConfig:
    """Settings of residual blocks of linear layers that work on each cell's channels.

    Attributes:
        kind: names this aligner.
        blocks: number of blocks in a row.
        layers: linear layers of a block.
    """

    kind: Literal["scaligner"] = "scaligner"
    blocks: int = 3
    layers: int = 2


@config
class CbamAlignerConfig:
    """Settings of residual blocks of 1x1 convolutions with attention: weights on the channels, then weights on the cells.

    Attributes:
        kind: names this aligner.
        blocks: number of blocks in a row.
        reduction: divisor of the number of channels inside the layers that compute the channels' weights.
    """

    kind: Literal["cbam"] = "cbam"
    blocks: int = 3
    reduction: int = 16


class AlignerBlock(nn.Module):
    """Two convolutions around a shortcut."""

    norms_follow_convolutions = True

    def __init__(self, channels: int, size: int) -> None:
        """Make the layers; `size` is the edge of the kernels."""
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, channels, size, padding=size // 2), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, size, padding=size // 2), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, ny, nx) to the same shape."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + x)


class ResidualAligner(BlockAligner):
    """Residual blocks of convolutions in a row."""

    def __init__(self, settings: ResidualAlignerConfig, channels: int) -> None:
        """Make the blocks for maps of `channels` channels."""
        size = 1 if settings.kind == "resnet1x1" else 3
        super().__init__(AlignerBlock(channels, size) for _ in range(settings.blocks))


class CellBlock(nn.Module):
    """A normalisation and linear layers over a cell's channels, added to the input."""

    def __init__(self, channels: int, layers: int) -> None:
        """Make the normalisation and `layers` linear layers, each followed by a GELU."""
        super().__init__()
        self.model = nn.Sequential(nn.LayerNorm(channels))
        for _ in range(layers):
            self.model.extend([nn.Linear(channels, channels), nn.GELU()])

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, ny, nx, C) to the same shape."""
        y: Tensor = x + self.model(x)
        return y


class CellAligner(nn.Module):
    """Residual blocks of linear layers in a row. Their parameters are named `backbone...`, as in HEAL's checkpoints."""

    def __init__(self, settings: CellAlignerConfig, channels: int) -> None:
        """Make the blocks for maps of `channels` channels."""
        super().__init__()
        self.backbone = nn.Sequential(*(CellBlock(channels, settings.layers) for _ in range(settings.blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, ny, nx) to the same shape."""
        y: Tensor = self.backbone(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return y


class ChannelWeights(nn.Module):
    """A weight in (0, 1) for every channel, from the channel's mean and maximum over the map."""

    def __init__(self, channels: int, reduction: int) -> None:
        """Make the layers; ValueError if `reduction` is greater than `channels`."""
        super().__init__()
        if reduction > channels:
            raise UserError(f"cbam aligner: {channels} channels cannot be reduced {reduction} times; lower `reduction`")
        inner = channels // reduction
        self.fc = nn.Sequential(nn.Conv2d(channels, inner, 1, bias=False), nn.ReLU(), nn.Conv2d(inner, channels, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, ny, nx) to the weights (N, C, 1, 1)."""
        mean, maximum = F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)
        weights: Tensor = (self.fc(mean) + self.fc(maximum)).sigmoid()
        return weights


class CellWeights(nn.Module):
    """A weight in (0, 1) for every cell, from mean and maximum of the channels in the cell and in its 7x7 neighbourhood."""

    def __init__(self) -> None:
        """Make the 7x7 convolution."""
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, ny, nx) to the weights (N, 1, ny, nx)."""
        weights: Tensor = self.conv1(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)).sigmoid()
        return weights


class CbamBlock(nn.Module):
    """Two 1x1 convolutions, weights on the channels and weights on the cells, around a shortcut."""

    norms_follow_convolutions = True

    def __init__(self, channels: int, reduction: int) -> None:
        """Make the layers; ValueError if `reduction` is greater than `channels`."""
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels)
        self.ca, self.sa = ChannelWeights(channels, reduction), CellWeights()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, ny, nx) to the same shape."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        y = self.ca(y) * y
        y = self.sa(y) * y
        return F.relu(y + x)


class CbamAligner(BlockAligner):
    """Residual blocks with attention (CBAM) in a row."""

    def __init__(self, settings: CbamAlignerConfig, channels: int) -> None:
        """Make the blocks for maps of `channels` channels; ValueError if these are fewer than `settings.reduction`."""
        super().__init__(CbamBlock(channels, settings.reduction) for _ in range(settings.blocks))
