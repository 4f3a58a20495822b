"""The per-agent backbone between an encoder's map and the shared feature space (HEAL, section 3.1)."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn

from heal.config import config, later
from heal.layers.map_size import output_cells
from heal.layers.plain import PlainStages
from heal.layers.residual import ResidualStages, Upsample
from heal.layers.shrink import Shrink, ShrinkConfig


@config
class BackboneConfig:
    """Settings of the backbone. The default has one stage; the maps of several stages are enlarged to one size and joined.

    Attributes:
        kind: "residual" for stages of residual blocks, "plain" for stages of 3x3 convolutions without shortcuts, as HEAL's other
            fusions have them (PointPillars, section 2.2).
        blocks: number of residual blocks of each stage, or of convolutions behind the first one.
        strides: stride of each stage's first block or convolution.
        channels: channels of each stage's map.
        upsample_strides: factor by which each stage's map is enlarged; one more factor enlarges the joined map.
        upsample_channels: channels of each enlarged map; if empty, the last stage's map is the output.
        shrink: pairs of convolutions at the end; None for none.
    """

    kind: Literal["residual", "plain"] = later("residual")
    blocks: tuple[int, ...] = (3,)
    strides: tuple[int, ...] = (2,)
    channels: tuple[int, ...] = (64,)
    upsample_strides: tuple[float, ...] = ()
    upsample_channels: tuple[int, ...] = ()
    shrink: ShrinkConfig | None = later(None)

    @property
    def joined_channels(self) -> int:
        """Channels of the output, or of the input of the shrink layers."""
        return sum(self.upsample_channels) or self.channels[-1]

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self.joined_channels if self.shrink is None else self.shrink.channels[-1]

    @property
    def reduction(self) -> float:
        """Edge of an output cell divided by the edge of an input cell."""
        shrunk = math.prod(self.shrink.strides if self.shrink else ())
        if not self.upsample_channels:
            return math.prod(self.strides) * shrunk
        further = math.prod(self.upsample_strides[len(self.channels) :])
        return self.strides[0] / (self.upsample_strides[0] * further) * shrunk

    def output_cells(self, cells: int) -> int | None:
        """Return the cells along an edge of the output for so many of the input; None if the enlarged maps differ in size."""
        out = output_cells(cells, self.strides, self.upsample_strides if self.upsample_channels else ())
        return out if out is None or self.shrink is None else output_cells(out, self.shrink.strides, ())


class Backbone(nn.Module):
    """Stages of convolutions, applied to an encoder's map."""

    def __init__(self, settings: BackboneConfig, in_channels: int) -> None:
        """Make the layers for maps of `in_channels` channels."""
        super().__init__()
        if settings.kind == "residual":
            self.resnet = ResidualStages(in_channels, settings.blocks, settings.strides, settings.channels)
        else:
            self.blocks = PlainStages(in_channels, settings.blocks, settings.strides, settings.channels)
        if settings.upsample_channels:
            self.deblocks = Upsample(settings.channels, settings.upsample_strides, settings.upsample_channels)
        self.shrinker: nn.Module = nn.Identity()
        if settings.shrink is not None:
            shrink = settings.shrink
            self.shrinker = Shrink(settings.joined_channels, shrink.channels, shrink.sizes, shrink.strides)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, ny, nx) to (N, out_channels, ny / reduction, nx / reduction); see `BackboneConfig.reduction`."""
        maps = self.stages(x)
        joined: Tensor = self.deblocks(maps) if hasattr(self, "deblocks") else maps[-1]
        shrunk: Tensor = self.shrinker(joined)
        return shrunk

    def stages(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the map (N, C, ny, nx) of every stage, the finest first."""
        maps: tuple[Tensor, ...] = (self.resnet if hasattr(self, "resnet") else self.blocks)(x)
        return maps
