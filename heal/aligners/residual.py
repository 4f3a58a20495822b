"""Aligners of residual blocks: convolutions, layers per cell, and convolutions with attention (He et al.; Woo et al.)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heal.config import config


@config
class ResidualAlignerConfig:
    """Residual blocks of two convolutions; with 1x1 kernels each cell is aligned on its own."""

    kind: Literal["resnet1x1", "resnet3x3"] = "resnet3x3"
    blocks: int = 3


@config
class CellAlignerConfig:
    """Residual blocks of linear layers that work on each cell's channels."""

    kind: Literal["scaligner"] = "scaligner"
    blocks: int = 3
    layers: int = 2


@config
class CbamAlignerConfig:
    """Residual blocks of 1x1 convolutions that weigh their channels, then their cells.

    Attributes:
        blocks: in a row.
        reduction: of the channels, inside the layers that weigh them.
    """

    kind: Literal["cbam"] = "cbam"
    blocks: int = 3
    reduction: int = 16


class ResidualBlock(nn.Module):
    """Two convolutions around a shortcut."""

    def __init__(self, channels: int, size: int) -> None:
        """`size` is the edge of the kernels."""
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, size, padding=size // 2) for _ in range(2))
        self.bn1, self.bn2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ny, nx), same shape."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + x)


class ResidualAligner(nn.Module):
    """Residual blocks in a row."""

    def __init__(self, settings: ResidualAlignerConfig, channels: int) -> None:
        """For maps of `channels`."""
        super().__init__()
        size = 1 if settings.kind == "resnet1x1" else 3
        self.model = nn.Sequential(*(ResidualBlock(channels, size) for _ in range(settings.blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ny, nx), same shape."""
        y: Tensor = self.model(x)
        return y


class CellBlock(nn.Module):
    """Normalisation and linear layers over a cell's channels, added to the input."""

    def __init__(self, channels: int, layers: int) -> None:
        """Each linear layer is followed by a GELU."""
        super().__init__()
        self.model = nn.Sequential(nn.LayerNorm(channels))
        for _ in range(layers):
            self.model.extend([nn.Linear(channels, channels), nn.GELU()])

    def forward(self, x: Tensor) -> Tensor:
        """(N, ny, nx, C), same shape."""
        y: Tensor = x + self.model(x)
        return y


class CellAligner(nn.Module):
    """Cell blocks in a row."""

    def __init__(self, settings: CellAlignerConfig, channels: int) -> None:
        """For maps of `channels`."""
        super().__init__()
        self.backbone = nn.Sequential(*(CellBlock(channels, settings.layers) for _ in range(settings.blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ny, nx), same shape."""
        y: Tensor = self.backbone(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return y


class ChannelWeights(nn.Module):
    """A weight in (0, 1) for every channel, from its mean and its maximum over the map."""

    def __init__(self, channels: int, reduction: int) -> None:
        """`reduction` is at most `channels`."""
        super().__init__()
        if reduction > channels:
            raise ValueError(f"cbam aligner: {channels} channels cannot be reduced {reduction} times; lower `reduction`")
        inner = channels // reduction
        self.fc = nn.Sequential(nn.Conv2d(channels, inner, 1, bias=False), nn.ReLU(), nn.Conv2d(inner, channels, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ny, nx) to (N, C, 1, 1)."""
        mean, maximum = F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)
        weights: Tensor = (self.fc(mean) + self.fc(maximum)).sigmoid()
        return weights


class CellWeights(nn.Module):
    """A weight in (0, 1) for every cell, from its channels' mean and maximum and those of its neighbours."""

    def __init__(self) -> None:
        """7x7 neighbours."""
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ny, nx) to (N, 1, ny, nx)."""
        weights: Tensor = self.conv1(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)).sigmoid()
        return weights


class CbamBlock(nn.Module):
    """Two 1x1 convolutions, weights of channels, weights of cells, around a shortcut."""

    def __init__(self, channels: int, reduction: int) -> None:
        """`reduction` is at most `channels`."""
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 1, bias=False) for _ in range(2))
        self.bn1, self.bn2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.ca, self.sa = ChannelWeights(channels, reduction), CellWeights()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ny, nx), same shape."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        y = self.ca(y) * y
        y = self.sa(y) * y
        return F.relu(y + x)


class CbamAligner(nn.Module):
    """CBAM blocks in a row."""

    def __init__(self, settings: CbamAlignerConfig, channels: int) -> None:
        """For maps of `channels`; ValueError if they are fewer than the reduction."""
        super().__init__()
        self.model = nn.Sequential(*(CbamBlock(channels, settings.reduction) for _ in range(settings.blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ny, nx), same shape."""
        y: Tensor = self.model(x)
        return y
