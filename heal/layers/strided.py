"""A 1x1 convolution with a stride, which shrinks the map of a residual block's shortcut, kept off a faulty path of oneDNN."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heal.layers.memory_layout import memory_format_of

# With this many input channels or more, oneDNN's gradient is sound.
SAFE_CHANNELS = 16


class StridedConv1x1(nn.Conv2d):
    """A 1x1 convolution with a stride. Its weights are those of the same `nn.Conv2d`; it has a bias once a norm is folded into it.

    On CPUs with AVX-512 but without AMX, torch 2.14.1's oneDNN writes outside of its memory in the gradient of such a
    convolution in the channels_last format with fewer than 16 input channels (docs/performance.md). While gradients are recorded,
    a layer with so few channels therefore drops the cells that the stride skips, and convolves the others with stride 1, which
    gives the same sums. With more channels, and without gradients, it is a plain convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        """Make a layer with random weights; `stride` counts cells in x and in y."""
        super().__init__(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve a map (N, in_channels, ny, nx) to (N, out_channels, ny / stride, nx / stride), both rounded up."""
        if self.in_channels >= SAFE_CHANNELS or not torch.is_grad_enabled() or self.stride == (1, 1):
            return super().forward(x)
        return F.conv2d(_EveryNth.apply(x, self.stride[0]), self.weight, self.bias)


class _EveryNth(torch.autograd.Function):
    """Every n-th row and column of a map. The gradient keeps the map's memory format, unlike that of slicing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, n: int) -> Tensor:
        """Copy every n-th row and column of a map (N, C, ny, nx)."""
        ctx.n, ctx.shape, ctx.memory_format = n, x.shape, memory_format_of(x)
        return x[:, :, ::n, ::n].contiguous(memory_format=ctx.memory_format)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Put the gradient back where the cells came from, zeros elsewhere."""
        full = torch.empty(ctx.shape, dtype=gradient.dtype, device=gradient.device, memory_format=ctx.memory_format).zero_()
        full[:, :, :: ctx.n, :: ctx.n] = gradient
        return full, None
