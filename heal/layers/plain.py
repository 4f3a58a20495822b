"""Stages of 3x3 convolutions without shortcuts, as in PointPillars (Lang et al. 2019, section 2.2)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

# Settings of the norms, as in PointPillars' published networks.
_EPSILON, _MOMENTUM = 1e-3, 0.01


class PlainStages(nn.Sequential):
    """Stages, each with its own stride and width; every stage's map is an output."""

    def __init__(self, in_channels: int, blocks: Sequence[int], strides: Sequence[int], channels: Sequence[int]) -> None:
        """Make the stages; stage i has a convolution with `strides[i]`, and behind it `blocks[i]` more, all of `channels[i]`."""
        widths = [in_channels, *channels]
        super().__init__(*(_stage(*part) for part in zip(widths, channels, blocks, strides, strict=False)))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the maps (N, C, ny, nx) of all stages, the finest first."""
        maps = []
        for stage in self:
            x = stage(x)
            maps.append(x)
        return tuple(maps)


def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    # HEAL's first layer pads the map. Here the convolution does, and a layer that does nothing keeps the numbers of the others.
    layers: list[nn.Module] = [nn.Identity()]
    for i in range(blocks + 1):
        convolution = nn.Conv2d(channels if i else in_channels, channels, 3, 1 if i else stride, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(channels, _EPSILON, _MOMENTUM), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
