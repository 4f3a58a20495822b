"""Residual stages: plain blocks for the agents' backbones (He et al.), grouped blocks for the pyramid's trunk (Xie et al.)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heal.errors import UserError
from heal.layers.memory_layout import keep_gradient_format
from heal.layers.recompute import norm_relu_conv
from heal.layers.strided import StridedConv1x1


def _conv(in_channels: int, out_channels: int, size: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Return a convolution without a bias whose padding keeps the size of a map at stride 1."""
    return nn.Conv2d(in_channels, out_channels, size, stride, padding=size // 2, groups=groups, bias=False)


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Return the shortcut of a block: the identity, or a 1x1 convolution where size or width changes."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(StridedConv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))


class ResidualBlock(nn.Module):
    """The common part of plain and grouped blocks.

    Attributes:
        recomputes: in training in single precision, compute the outputs of ReLUs again for the gradient instead of keeping them.
    """

    recomputes = False

    def _norm_relu_conv(self, x: Tensor, norm: nn.Module, conv: nn.Module) -> Tensor:
        """Return `conv(relu(norm(x)))`."""
        learning = self.recomputes and self.training and torch.is_grad_enabled() and not torch.is_autocast_enabled(x.device.type)
        # A wide convolution has another algorithm (`heal.layers.winograd`), which keeps the output of the ReLU itself.
        if learning and isinstance(norm, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d):
            return norm_relu_conv(x, norm, conv)
        y: Tensor = conv(F.relu(norm(x), inplace=True))
        return y


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions around a shortcut."""

    norms_follow_convolutions = True

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        """Make the layers; the first convolution has the stride."""
        super().__init__()
        self.conv1, self.bn1 = _conv(in_channels, channels, 3, stride), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = _conv(channels, channels, 3), nn.BatchNorm2d(channels)
        self.downsample = _shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, ny, nx) to (N, channels, ny / stride, nx / stride)."""
        y = self._norm_relu_conv(self.conv1(x), self.bn1, self.conv2)
        return F.relu(self.bn2(y).add_(self.downsample(x)), inplace=True)


class GroupedBlock(ResidualBlock):
    """A grouped 3x3 convolution between two 1x1 convolutions, around a shortcut."""

    norms_follow_convolutions = True

    def __init__(self, in_channels: int, channels: int, stride: int, groups: int, base_width: int) -> None:
        """Make the layers; the grouped convolution has the stride.

        Args:
            in_channels: channels of the input.
            channels: channels of the output.
            stride: in x and in y.
            groups: groups of the 3x3 convolution.
            base_width: inner channels of a group for an output of 64 channels; they grow in proportion to the output's channels.

        Raises:
            ValueError: `base_width` is so small that no inner channel is left.
        """
        super().__init__()
        width = int(channels * base_width / 64) * groups
        if not width:
            raise UserError(
                f"{channels} channels with base_width {base_width} leave no inner channel; "
                f"base_width must be at least {64 / channels:g}"
            )
        self.conv1, self.bn1 = _conv(in_channels, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride, groups), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = _conv(width, channels, 1), nn.BatchNorm2d(channels)
        self.downsample = _shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, ny, nx) to (N, channels, ny / stride, nx / stride)."""
        y = self._norm_relu_conv(self.conv1(x), self.bn1, self.conv2)
        y = self._norm_relu_conv(y, self.bn2, self.conv3)
        return F.relu(self.bn3(y).add_(self.downsample(x)), inplace=True)


class ResidualStages(nn.Module):
    """Stages of residual blocks, each with its own stride and width; every stage's map is an output."""

    def __init__(
        self,
        in_channels: int,
        blocks: Sequence[int],
        strides: Sequence[int],
        channels: Sequence[int],
        groups: int = 0,
        base_width: int = 4,
    ) -> None:
        """Make the stages; stage i has `blocks[i]` blocks, `strides[i]` and `channels[i]`.

        Args:
            in_channels: channels of the input.
            blocks: number of blocks of each stage.
            strides: stride of each stage's first block.
            channels: channels of each stage's map.
            groups: groups of the blocks' 3x3 convolutions; 0 for plain blocks.
            base_width: see `GroupedBlock`.
        """
        super().__init__()
        self.stages = len(blocks)
        for i, (count, stride, width) in enumerate(zip(blocks, strides, channels, strict=True)):
            stage = nn.Sequential()
            for j in range(count):
                step = stride if j == 0 else 1
                block = (
                    GroupedBlock(in_channels, width, step, groups, base_width) if groups else BasicBlock(in_channels, width, step)
                )
                stage.append(block)
                in_channels = width
            self.add_module(f"layer{i}", stage)

    def forward(self, x: Tensor, first: int = 0) -> tuple[Tensor, ...]:
        """Return the maps (N, C, ny, nx) of the stages from number `first` on, the finest first; `x` is the input of that stage."""
        maps = []
        for i in range(first, self.stages):
            x = self.get_submodule(f"layer{i}")(x)
            maps.append(x)
        return tuple(maps)


class Upsample(nn.ModuleList):
    """Layers that bring the maps of several stages to one size and join them along the channels."""

    def __init__(self, in_channels: Sequence[int], strides: Sequence[float], channels: Sequence[int]) -> None:
        """Make the layers. A stride below 1 shrinks a map.

        Args:
            in_channels: channels of each stage's map.
            strides: factor by which each stage's map is enlarged; one more factor enlarges the joined map.
            channels: channels of each enlarged map.
        """
        super().__init__()
        for width, stride, out in zip(in_channels, strides, channels, strict=False):
            self.append(_resize(width, out, stride))
        if len(strides) > len(in_channels):
            total = sum(channels)
            self.append(_resize(total, total, strides[-1]))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Map the stages' maps (N, C, ny, nx), each of its own size, to the joined map (N, sum of channels, ny, nx)."""
        # Each stage's last layer is a ReLU. One ReLU over the joined map keeps only that map for the gradient.
        joined = F.relu(torch.cat([self._before_relu(i, level) for i, level in enumerate(maps)], dim=1), inplace=True)
        return self[len(maps)](joined) if len(self) > len(maps) else joined

    def _before_relu(self, i: int, level: Tensor) -> Tensor:
        """Return stage i's resized map before its ReLU."""
        convolution, norm, _ = cast(nn.Sequential, self[i])
        return keep_gradient_format(norm(convolution(level)))


def _resize(in_channels: int, out_channels: int, stride: float) -> nn.Sequential:
    """Return a convolution that resizes a map, a batch norm and a ReLU; a stride below 1 shrinks the map."""
    if stride >= 1:
        size = int(stride)
        convolution: nn.Module = nn.ConvTranspose2d(in_channels, out_channels, size, size, bias=False)
    else:
        size = round(1 / stride)
        convolution = nn.Conv2d(in_channels, out_channels, size, size, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.01), nn.ReLU(inplace=True))
