"""ConvNeXt aligners: HEAL's own (Liu et al.), and ConvNeXt blocks in turn with attention between channels (Maaz et al.)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heal.aligners.blocks import BlockAligner
from heal.config import config
from heal.errors import UserError

# The factor on the map that a new block adds to its input: so small that training starts from the identity.
_INITIAL_SCALE = 1e-6


@config
class ConvNextAlignerConfig:
    """Settings of HEAL's aligner: ConvNeXt blocks, each a depthwise 7x7 convolution and two linear layers per cell.

    Attributes:
        kind: names this aligner.
        blocks: number of blocks in a row.
    """

    kind: Literal["convnext"] = "convnext"
    blocks: int = 3


@config
class SdtaAlignerConfig:
    """Settings of pairs of blocks: a ConvNeXt block with a 1x1 kernel and a block of attention between channels.

    Attributes:
        kind: names this aligner.
        blocks: number of pairs in a row.
        heads: of the attention; they divide the channels.
    """

    kind: Literal["sdta"] = "sdta"
    blocks: int = 3
    heads: int = 4


class ConvNextBlock(nn.Module):
    """A depthwise convolution, a normalisation and two linear layers per cell, added to the input."""

    def __init__(self, channels: int, size: int = 7) -> None:
        """Make the layers; `size` is the edge of the depthwise convolution's kernel."""
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, size, padding=size // 2, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1, self.pwconv2 = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), _INITIAL_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, ny, nx) to the same shape."""
        y: Tensor = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        return x + y.permute(0, 3, 1, 2)


class ConvNextAligner(BlockAligner):
    """ConvNeXt blocks in a row."""

    def __init__(self, settings: ConvNextAlignerConfig, channels: int) -> None:
        """Make the blocks for maps of `channels` channels."""
        super().__init__(ConvNextBlock(channels) for _ in range(settings.blocks))


class ChannelAttention(nn.Module):
    """Attention whose tokens are channels; a token's vector holds the channel's values in all cells."""

    def __init__(self, channels: int, heads: int) -> None:
        """Make the layers; ValueError unless `heads` divides `channels`."""
        super().__init__()
        if channels % heads:
            raise UserError(f"sdta aligner: {channels} channels cannot be shared by {heads} heads; choose a divisor")
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, cells, C) to the same shape."""
        n, cells, channels = x.shape
        shape = (n, cells, 3, self.heads, channels // self.heads)
        query, key, value = self.qkv(x).reshape(shape).permute(2, 0, 3, 4, 1)  # each (N, heads, C / heads, cells)
        # Vectors of unit length; otherwise the scores would grow with the number of cells.
        scores = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1)
        mixed = (scores * self.temperature).softmax(-1) @ value
        y: Tensor = self.proj(mixed.permute(0, 3, 1, 2).reshape(n, cells, channels))
        return y


class SdtaBlock(nn.Module):
    """Two scalings per channel, attention between channels and two linear layers per cell, added to the input."""

    def __init__(self, channels: int, heads: int) -> None:
        """Make the layers; ValueError unless `heads` divides `channels`."""
        super().__init__()
        self.convs = nn.Sequential(_scaling(channels), nn.ReLU(), _scaling(channels), nn.ReLU())
        self.norm_xca, self.xca = nn.LayerNorm(channels, eps=1e-6), ChannelAttention(channels, heads)
        self.gamma_xca = nn.Parameter(torch.full((channels,), _INITIAL_SCALE))
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1, self.pwconv2 = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), _INITIAL_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, ny, nx) to the same shape."""
        cells = self.convs(x).flatten(2).transpose(1, 2)  # (N, cells, C)
        cells = cells + self.gamma_xca * self.xca(self.norm_xca(cells))
        y: Tensor = self.gamma * self.pwconv2(F.gelu(self.pwconv1(self.norm(cells))))
        return x + y.transpose(1, 2).reshape(x.shape)


class SdtaAligner(BlockAligner):
    """ConvNeXt blocks and blocks of attention between channels in turn."""

    def __init__(self, settings: SdtaAlignerConfig, channels: int) -> None:
        """Make the blocks for maps of `channels` channels; ValueError unless the heads divide them."""
        blocks: list[nn.Module] = []
        for _ in range(settings.blocks):
            blocks += [ConvNextBlock(channels, size=1), SdtaBlock(channels, settings.heads)]
        super().__init__(blocks)


def _scaling(channels: int) -> nn.Conv2d:
    """Return a layer that scales and shifts each channel on its own."""
    return nn.Conv2d(channels, channels, 1, groups=channels)
