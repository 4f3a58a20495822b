"""The memory format of maps, channels_last or contiguous: zeros and gradients are kept in the format of the map they belong to.

Operations on maps of different formats, or on strided parts of maps, can take ten times as long.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def memory_format_of(x: Tensor) -> torch.memory_format:
    """Return the memory format of a map (N, C, ny, nx); contiguous if the map is in neither format."""
    return torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format


def zeros_in_format_of(like: Tensor, shape: torch.Size) -> Tensor:
    """Return zeros (N, C, ny, nx) with the type, the device and the memory format of the map `like`."""
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=memory_format_of(like)).zero_()


def keep_gradient_format(x: Tensor) -> Tensor:
    """Return the map `x`; its gradient will have the memory format of `x`.

    Without this, the gradient is for example a strided part of a wider map's gradient, or has the format of whichever operation
    reads `x` next.
    """
    if x.requires_grad:
        layout = memory_format_of(x)
        x.register_hook(lambda gradient: gradient.contiguous(memory_format=layout))  # type: ignore[no-untyped-call]
    return x


def split_batch(x: Tensor) -> tuple[Tensor, ...]:
    """Split a map (N, C, ny, nx) into N views (1, C, ny, nx).

    The gradient of `x` will have the memory format of `x`, which the gradient of `torch.split` has not.
    """
    if not x.requires_grad:
        return torch.split(x, 1)
    parts: tuple[Tensor, ...] = _SplitBatch.apply(x)
    return parts


class _SplitBatch(torch.autograd.Function):
    """The split with its gradient; see `split_batch`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, ...]:
        """Split a map and note its memory format for the gradient."""
        ctx.layout = memory_format_of(x)
        return torch.split(x, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Join the gradients of the parts; the gradient of a part that was not used is zero."""
        return torch.cat([gradient.contiguous(memory_format=ctx.layout) for gradient in gradients])
