"""Norm, ReLU and convolution in a row, of which only the norm's input is kept for the gradient.

What the ReLU gives is usually kept for itself and for the convolution; it follows from the norm's input by one multiplication and
one addition. To compute it again takes some hundredths of a training step's time, to keep it a third of its memory.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def norm_relu_conv(x: Tensor, norm: nn.BatchNorm2d, conv: nn.Conv2d) -> Tensor:
    """`conv(relu(norm(x)))` in training, with its gradient.

    Args:
        x: (N, C, ny, nx) float32.
        norm: with running statistics, in train mode; they are moved.
        conv: without a bias, padded by zeros.
    """
    assert norm.num_batches_tracked is not None and conv.bias is None and conv.padding_mode == "zeros"
    norm.num_batches_tracked.add_(1)
    y: Tensor = _NormReluConv.apply(x, norm.weight, norm.bias, conv.weight, norm, conv)
    return y


class _NormReluConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, kernel: Tensor, norm: nn.BatchNorm2d, conv: nn.Conv2d) -> Tensor:
        """See `norm_relu_conv`."""
        running = (norm.running_mean, norm.running_var, True, norm.momentum or 0.0, norm.eps)
        y, mean, inverse = torch.native_batch_norm(x, scale, shift, *running)
        ctx.save_for_backward(x, scale, shift, kernel, mean, inverse)
        ctx.norm, ctx.conv = norm, conv
        return F.conv2d(F.relu(y, inplace=True), kernel, None, conv.stride, conv.padding, conv.dilation, conv.groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None, None]:
        """Of input, norm and kernel."""
        x, scale, shift, kernel, mean, inverse = ctx.saved_tensors
        norm, conv = ctx.norm, ctx.conv
        slope = scale * inverse
        y = torch.addcmul((shift - mean * slope).view(-1, 1, 1), x, slope.view(-1, 1, 1)).relu_()
        geometry = (conv.stride, conv.padding, conv.dilation, False, (0, 0), conv.groups)
        for_y, for_kernel, _ = torch.ops.aten.convolution_backward(gradient, y, kernel, None, *geometry, (True, True, False))
        torch.ops.aten.threshold_backward.grad_input(for_y, y, 0, grad_input=for_y)
        statistics = (norm.running_mean, norm.running_var, mean, inverse, True, norm.eps)
        for_norm = torch.ops.aten.native_batch_norm_backward(for_y, x, scale, *statistics, (True, True, True))
        return *for_norm, for_kernel, None, None
