"""The per-agent backbone: residual blocks between an encoder's map and the shared feature space (HEAL, section 3.1)."""

from __future__ import annotations

import math

from torch import Tensor, nn

from heal.config import config
from heal.layers.residual import ResidualStages, Upsample


@config
class BackboneConfig:
    """Settings of the backbone. The default has one stage; the maps of several stages are enlarged to one size and joined.

    Attributes:
        blocks: number of residual blocks of each stage.
        strides: stride of each stage's first block.
        channels: channels of each stage's map.
        upsample_strides: factor by which each stage's map is enlarged; one more factor enlarges the joined map.
        upsample_channels: channels of each enlarged map; if empty, the last stage's map is the output.
    """

    blocks: tuple[int, ...] = (3,)
    strides: tuple[int, ...] = (2,)
    channels: tuple[int, ...] = (64,)
    upsample_strides: tuple[float, ...] = ()
    upsample_channels: tuple[int, ...] = ()

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return sum(self.upsample_channels) or self.channels[-1]

    @property
    def reduction(self) -> float:
        """Edge of an output cell divided by the edge of an input cell."""
        if not self.upsample_channels:
            return math.prod(self.strides)
        further = math.prod(self.upsample_strides[len(self.channels) :])
        return self.strides[0] / (self.upsample_strides[0] * further)


class Backbone(nn.Module):
    """Residual stages, applied to an encoder's map."""

    def __init__(self, settings: BackboneConfig, in_channels: int) -> None:
        """Make the layers for maps of `in_channels` channels."""
        super().__init__()
        self.resnet = ResidualStages(in_channels, settings.blocks, settings.strides, settings.channels)
        if settings.upsample_channels:
            self.deblocks = Upsample(settings.channels, settings.upsample_strides, settings.upsample_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, ny, nx) to (N, out_channels, ny / reduction, nx / reduction); see `BackboneConfig.reduction`."""
        maps = self.resnet(x)
        joined: Tensor = self.deblocks(maps) if hasattr(self, "deblocks") else maps[-1]
        return joined
