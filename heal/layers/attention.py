"""The parts that transformers over bird's-eye-view maps share: attention of several heads, feed-forward layers, residual steps."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heal.errors import UserError
from heal.layers.linear import Linear

# Logit of a key that is to have no weight. It is finite, so that a window without any other key gives numbers.
NO_WEIGHT = -1e4


def head_count(channels: int, head_channels: int) -> int:
    """Return the number of heads of `head_channels` channels that vectors are split into; UserError unless they fit."""
    if head_channels < 1 or channels % head_channels:
        raise UserError(f"fusion.head_channels: expected a divisor of the maps' {channels} channels, got {head_channels}")
    return channels // head_channels


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Split vectors (X, T, heads * D) into heads: (X, heads, T, D)."""
    return x.view(*x.shape[:-1], heads, -1).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """Join heads (X, heads, T, D) to vectors (X, T, heads * D)."""
    return x.transpose(1, 2).flatten(2)


def attend(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the values, weighted by softmax(queries keys^T / sqrt(D) + bias).

    Args:
        queries: (X, heads, T, D).
        keys: (X, heads, S, D).
        values: (X, heads, S, D).
        bias: added to the logits, of a shape that broadcasts to (X, heads, T, S).

    Returns:
        (X, heads, T, D).
    """
    return F.scaled_dot_product_attention(queries, keys, values, None if bias is None else bias.to(queries.dtype))


def trust_bias(trust: Tensor) -> Tensor:
    """Return what to add to the logits of agents (N,), so that their factors `trust` (N,) multiply their weights."""
    return trust.clamp_min(torch.finfo(trust.dtype).tiny).log()


def mask_bias(mask: Tensor) -> Tensor:
    """Return what to add to the logits of keys, so that those outside of a mask (...) bool have no weight."""
    return torch.where(mask, 0.0, NO_WEIGHT)


class FeedForward(nn.Module):
    """Two linear layers on each vector, with GELU and dropout between them."""

    def __init__(self, channels: int, hidden: int, dropout: float) -> None:
        """Make the layers from `channels` to `hidden` and back."""
        super().__init__()
        self.net = nn.Sequential(
            Linear(channels, hidden), nn.GELU(), nn.Dropout(dropout), Linear(hidden, channels), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Compute vectors (..., channels)."""
        out: Tensor = self.net(x)
        return out


class PreNorm(nn.Module):
    """A step of a transformer: the input, plus what a layer makes of the normalised input."""

    def __init__(self, channels: int, layer: nn.Module) -> None:
        """Make the norm of `channels` channels in front of a layer."""
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.fn = layer

    def forward(self, x: Tensor, *others: Any) -> Tensor:
        """Compute vectors (..., channels); `others` are further arguments of the layer."""
        out: Tensor = x + self.fn(self.norm(x), *others)
        return out
