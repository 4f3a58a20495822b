"""How maps lie in memory: channels last or first. With maps of both kinds, or parts of maps, much takes up to ten times as long."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def memory_format_of(x: Tensor) -> torch.memory_format:
    """Of a map (N, C, ny, nx); channels first if it is none of both."""
    return torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format


def zeros_as(like: Tensor, shape: torch.Size) -> Tensor:
    """Zeros (N, C, ny, nx) that lie as `like` does."""
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=memory_format_of(like)).zero_()


def gradient_as_itself(x: Tensor) -> Tensor:
    """`x`, whose gradient will lie as it does: not as a part of a wider map's, or as whatever is done with `x` would have it."""
    if x.requires_grad:
        layout = memory_format_of(x)
        x.register_hook(lambda gradient: gradient.contiguous(memory_format=layout))  # type: ignore[no-untyped-call]
    return x


def split_rows(x: Tensor) -> tuple[Tensor, ...]:
    """Every row of a map on its own, (1, C, ny, nx), no copies; the gradient will lie as `x` does, unlike that of `torch.split`."""
    if not x.requires_grad:
        return torch.split(x, 1)
    rows: tuple[Tensor, ...] = _SplitRows.apply(x)
    return rows


class _SplitRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, ...]:
        """See `split_rows`."""
        ctx.layout = memory_format_of(x)
        return torch.split(x, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        """Of the rows; of one that nobody used it is zeros."""
        return torch.cat([gradient.contiguous(memory_format=ctx.layout) for gradient in gradients])
