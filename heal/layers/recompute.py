"""Norm, ReLU and convolution in a row that keep only the norm's input for the gradient.

Usually the output of the ReLU is kept too, for the gradients of the ReLU and of the convolution. That output follows from the
norm's input by one multiplication and one addition. Computing it again takes a few hundredths of a training step's time; keeping
it takes a third of a training step's memory.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def norm_relu_conv(x: Tensor, norm: nn.BatchNorm2d, conv: nn.Conv2d) -> Tensor:
    """Return `conv(relu(norm(x)))` in training, with gradients.

    Args:
        x: (N, C, ny, nx) float32.
        norm: a batch norm with running statistics, in train mode; this call updates the statistics.
        conv: a convolution without a bias, padded with zeros.
    """
    assert norm.num_batches_tracked is not None and conv.bias is None and conv.padding_mode == "zeros"
    norm.num_batches_tracked.add_(1)
    y: Tensor = _NormReluConv.apply(x, norm.weight, norm.bias, conv.weight, norm, conv)
    return y


class _NormReluConv(torch.autograd.Function):
    """The three layers with their gradients; see `norm_relu_conv`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, kernel: Tensor, norm: nn.BatchNorm2d, conv: nn.Conv2d) -> Tensor:
        """Compute the output; keep the norm's input, the batch's statistics and the weights for the gradient."""
        running = (norm.running_mean, norm.running_var, True, norm.momentum or 0.0, norm.eps)
        y, mean, inverse = torch.native_batch_norm(x, scale, shift, *running)
        ctx.save_for_backward(x, scale, shift, kernel, mean, inverse)
        ctx.norm, ctx.conv = norm, conv
        return F.conv2d(F.relu(y, inplace=True), kernel, None, conv.stride, conv.padding, conv.dilation, conv.groups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None, None]:
        """Return the gradients of the input, of the norm's scale and shift, and of the convolution's kernel."""
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
