"""ConvNeXt aligners: the one of the paper, and one that alternates with attention between channels (Liu et al.; Maaz et al.)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heal.config import config

# What a fresh block adds to its input: next to nothing, so that training starts from the identity.
_INITIAL_SCALE = 1e-6


@config
class ConvNextAlignerConfig:
    """The paper's aligner: blocks of a depthwise 7x7 convolution and two layers that work on each cell's channels."""

    kind: Literal["convnext"] = "convnext"
    blocks: int = 3


@config
class SdtaAlignerConfig:
    """Pairs of a ConvNeXt block without a neighbourhood and a block of attention between channels."""

    kind: Literal["sdta"] = "sdta"
    blocks: int = 3
    heads: int = 4


class ConvNextBlock(nn.Module):
    """Depthwise convolution, normalisation and two layers per cell, added to the input."""

    def __init__(self, channels: int, size: int = 7) -> None:
        """`size` is the edge of the depthwise convolution's kernel."""
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, size, padding=size // 2, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1, self.pwconv2 = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), _INITIAL_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ny, nx), same shape."""
        y: Tensor = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        return x + y.permute(0, 3, 1, 2)


class ConvNextAligner(nn.Module):
    """ConvNeXt blocks in a row."""

    def __init__(self, settings: ConvNextAlignerConfig, channels: int) -> None:
        """For maps of `channels`."""
        super().__init__()
        self.model = nn.Sequential(*(ConvNextBlock(channels) for _ in range(settings.blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ny, nx), same shape."""
        y: Tensor = self.model(x)
        return y


class ChannelAttention(nn.Module):
    """Attention whose tokens are channels: a cell is one dimension of their vectors."""

    def __init__(self, channels: int, heads: int) -> None:
        """`heads` divides `channels`."""
        super().__init__()
        if channels % heads:
            raise ValueError(f"sdta aligner: {channels} channels cannot be shared by {heads} heads; choose a divisor")
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, cells, C), same shape."""
        n, cells, channels = x.shape
        shape = (n, cells, 3, self.heads, channels // self.heads)
        query, key, value = self.qkv(x).reshape(shape).permute(2, 0, 3, 4, 1)  # each (N, heads, C / heads, cells)
        # Unit length, because the number of cells would otherwise set the scale.
        scores = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1)
        mixed = (scores * self.temperature).softmax(-1) @ value
        y: Tensor = self.proj(mixed.permute(0, 3, 1, 2).reshape(n, cells, channels))
        return y


class SdtaBlock(nn.Module):
    """Two scalings per channel, attention between channels and two layers per cell, added to the input."""

    def __init__(self, channels: int, heads: int) -> None:
        """`heads` divides `channels`."""
        super().__init__()
        self.convs = nn.Sequential(_scaling(channels), nn.ReLU(), _scaling(channels), nn.ReLU())
        self.norm_xca, self.xca = nn.LayerNorm(channels, eps=1e-6), ChannelAttention(channels, heads)
        self.gamma_xca = nn.Parameter(torch.full((channels,), _INITIAL_SCALE))
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1, self.pwconv2 = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), _INITIAL_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ny, nx), same shape."""
        cells = self.convs(x).flatten(2).transpose(1, 2)  # (N, cells, C)
        cells = cells + self.gamma_xca * self.xca(self.norm_xca(cells))
        y: Tensor = self.gamma * self.pwconv2(F.gelu(self.pwconv1(self.norm(cells))))
        return x + y.transpose(1, 2).reshape(x.shape)


class SdtaAligner(nn.Module):
    """ConvNeXt and channel attention in turn."""

    def __init__(self, settings: SdtaAlignerConfig, channels: int) -> None:
        """For maps of `channels`; ValueError if the heads do not divide them."""
        super().__init__()
        blocks: list[nn.Module] = []
        for _ in range(settings.blocks):
            blocks += [ConvNextBlock(channels, size=1), SdtaBlock(channels, settings.heads)]
        self.model = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ny, nx), same shape."""
        y: Tensor = self.model(x)
        return y


def _scaling(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 1, groups=channels)
