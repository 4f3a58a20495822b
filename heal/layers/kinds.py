"""Layers with weights for each kind of agent: the vectors of N agents come in, each agent's computed by the weights of its kind."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heal.layers.linear import linear


class KindLinear(nn.Module):
    """A linear layer for each of several kinds."""

    def __init__(self, kinds: int, in_channels: int, out_channels: int) -> None:
        """Make the weights, each kind's drawn as torch draws those of one layer."""
        super().__init__()
        layers = [nn.Linear(in_channels, out_channels) for _ in range(kinds)]
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in layers]))

    def forward(self, x: Tensor, kinds: Sequence[int]) -> Tensor:
        """Compute the vectors (X, N, T, in) of agents, whose kinds are `kinds` (N,): (X, N, T, out)."""
        return by_kind(x, self.weight, self.bias, kinds)


def by_kind(x: Tensor, weight: Tensor, bias: Tensor, kinds: Sequence[int]) -> Tensor:
    """Compute the vectors (X, N, T, in) of agents by weights (K, out, in) and biases (K, out) of their kinds (N,)."""
    if len(set(kinds)) == 1:
        return linear(x, weight[kinds[0]], bias[kinds[0]])
    agents = zip(x.unbind(dim=1), kinds, strict=True)
    return torch.stack([linear(agent, weight[kind], bias[kind]) for agent, kind in agents], dim=1)


class KindNorm(nn.Module):
    """A norm of each vector, with a scale and a shift for each of several kinds."""

    def __init__(self, kinds: int, channels: int) -> None:
        """Make the weights."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(kinds, channels))
        self.bias = nn.Parameter(torch.zeros(kinds, channels))

    def forward(self, x: Tensor, kinds: Sequence[int]) -> Tensor:
        """Normalise the vectors (X, N, T, C) of agents, whose kinds are `kinds` (N,)."""
        rows = list(kinds)
        normed = F.layer_norm(x, x.shape[-1:])
        return torch.addcmul(self.bias[rows][:, None], normed, self.weight[rows][:, None])


class KindFeedForward(nn.Module):
    """Two linear layers on each vector, with GELU and dropout between them, for each of several kinds."""

    def __init__(self, kinds: int, channels: int, hidden: int, dropout: float) -> None:
        """Make the layers from `channels` to `hidden` and back."""
        super().__init__()
        self.inner, self.outer = KindLinear(kinds, channels, hidden), KindLinear(kinds, hidden, channels)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, kinds: Sequence[int]) -> Tensor:
        """Compute the vectors (X, N, T, C) of agents, whose kinds are `kinds` (N,)."""
        hidden = self.drop(F.gelu(self.inner(x, kinds)))
        out: Tensor = self.drop(self.outer(hidden, kinds))
        return out
