"""CoBEVT: attention among the cells of all agents, in local windows and in spread ones (Xu et al. 2022, "CoBEVT", section 3.2)."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from heal.config import config
from heal.fusion.map_fusion import MapFusion, MapFusionConfig, SceneMaps, require_at_least_one
from heal.grid import BevGrid
from heal.layers.attention import FeedForward, PreNorm, attend, head_count, join_heads, mask_bias, split_heads, trust_bias
from heal.layers.linear import Linear, linear
from heal.layers.windows import Windows, relative_index


@config
class CobevtConfig(MapFusionConfig):
    """Settings of CoBEVT; the defaults are those of HEAL's baseline.

    Attributes:
        slots: number of agents that the tables of relative positions have places for. Of more agents, the first ones take part.
        order: which senders come first, behind the ego: "nearest", or "given", the order in which they are given, as in HEAL,
            whose result depends on it.
        layers: pairs of local and spread attention.
        window: edge of a window, in cells.
        head_channels: channels of a head.
        hidden: channels between the two layers of a feed-forward step.
        dropout: share of the values that are dropped in training.
    """

    kind: Literal["cobevt"] = "cobevt"
    slots: int = 5
    order: Literal["nearest", "given"] = "nearest"
    layers: int = 3
    window: int = 4
    head_channels: int = 32
    hidden: int = 256
    dropout: float = 0.1

    def __post_init__(self) -> None:
        """Raise ConfigError for a number that is less than 1."""
        require_at_least_one(self, "slots", "layers", "window", "head_channels", "hidden")


class Cobevt(MapFusion):
    """Fused axial attention (section 3.2): every cell attends to the cells of all agents in its window, then in its spread window.

    The method has a fixed number of slots for agents. Slots without an agent give no keys, but their own cells are computed too and
    have a part in the mean over all slots that ends the fusion. The relative positions count slots, so the order of the agents
    matters: unless `order` says otherwise, the senders are sorted by their distance from the ego. Trust is a factor on an agent's
    weight in every attention, and on its slot's weight in the mean.
    """

    def __init__(self, settings: CobevtConfig, in_channels: int, grid: BevGrid) -> None:
        """Make the layers for maps of `in_channels` channels on `grid`."""
        super().__init__(settings, in_channels, grid)
        self.settings = settings
        self.layers = nn.ModuleList(_Layer(settings, in_channels) for _ in range(settings.layers))
        # HEAL's first two layers have no weights.
        head = nn.Identity(), nn.Identity(), nn.LayerNorm(in_channels), Linear(in_channels, in_channels)
        self.mlp_head = nn.Sequential(*head)

    def fuse_scene(self, scene: SceneMaps) -> Tensor:
        """Return the mean over the slots behind the last layer, normalised and mapped by a linear layer."""
        order = list(range(len(scene.maps))) if self.settings.order == "given" else _nearest_first(scene)
        order = order[: self.settings.slots]
        trust = scene.trust[order]
        slots = scene.maps.new_zeros(self.settings.slots, *scene.maps.shape[1:]).permute(0, 2, 3, 1).contiguous()
        slots[: len(order)] = scene.maps[order].permute(0, 2, 3, 1)
        for layer in self.layers:
            slots = layer(slots, trust)
        weights = torch.cat([trust, trust.new_ones(self.settings.slots - len(order))])
        mean = torch.einsum("lyxc,l->yxc", slots, weights / weights.sum())
        fused: Tensor = self.mlp_head(mean)
        return fused.permute(2, 0, 1)[None]


def _nearest_first(scene: SceneMaps) -> list[int]:
    """Return the order of agents by their distance from the ego, with the ego first; of equals, the one with smaller values."""
    distances = scene.agent_SE3_ego[:, :2, 3].norm(dim=1).tolist()
    senders = range(1, len(distances))
    return [0, *sorted(senders, key=lambda i: (distances[i], float(scene.own[i].detach().float().sum())))]


class _Layer(nn.Module):
    """Attention and feed-forward in local windows, then in spread ones."""

    def __init__(self, settings: CobevtConfig, channels: int) -> None:
        super().__init__()
        self._local, self._spread = Windows(settings.window), Windows(settings.window, spread=True)
        self.window_attention = _AttentionStep(channels, _SlotAttention(settings, channels))
        self.window_ffd = PreNorm(channels, FeedForward(channels, settings.hidden, settings.dropout))
        self.grid_attention = _AttentionStep(channels, _SlotAttention(settings, channels))
        self.grid_ffd = PreNorm(channels, FeedForward(channels, settings.hidden, settings.dropout))

    def forward(self, slots: Tensor, trust: Tensor) -> Tensor:
        """Compute maps (slots, ny, nx, C) of which the first `len(trust)` are agents'."""
        for windows, attention, feed_forward in (
            (self._local, self.window_attention, self.window_ffd),
            (self._spread, self.grid_attention, self.grid_ffd),
        ):
            slots = windows.apply(slots, partial(_computed, attention, feed_forward, attention.fn.bias(trust)))
        return slots


def _computed(attention: PreNorm, feed_forward: PreNorm, bias: Tensor, x: Tensor, inside: Tensor | None) -> Tensor:
    """Compute the cells (X, slots, T, C) of windows by attention with a bias, and by a feed-forward step."""
    out: Tensor = feed_forward(attention(x, bias, inside))
    return out


class _AttentionStep(PreNorm):
    """A residual step of attention among slots."""

    fn: _SlotAttention


class _SlotAttention(nn.Module):
    """Attention of the cells of all slots to the agents' cells in a window, biased by the steps between slots, rows and columns."""

    relative_position_index: Tensor

    def __init__(self, settings: CobevtConfig, channels: int) -> None:
        super().__init__()
        self.slots, self.heads = settings.slots, head_count(channels, settings.head_channels)
        shape = (settings.slots, settings.window, settings.window)
        self.to_qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.to_out = nn.Sequential(Linear(channels, channels, bias=False), nn.Dropout(settings.dropout))
        self.relative_position_bias_table = nn.Embedding(math.prod(2 * size - 1 for size in shape), self.heads)
        self.register_buffer("relative_position_index", relative_index(shape))

    def forward(self, x: Tensor, bias: Tensor, inside: Tensor | None) -> Tensor:
        """Compute the cells (X, slots, T, C) of windows, with the `bias` of as many agents as give keys."""
        agents, channels = bias.shape[-1] // x.shape[2], x.shape[3]
        if inside is not None:
            bias = bias + mask_bias(inside).repeat(1, agents)[:, None, None]
        of_query, of_keys = self.to_qkv.weight[:channels], self.to_qkv.weight[channels:]
        keys, values = linear(x[:, :agents].flatten(1, 2), of_keys).chunk(2, dim=-1)
        q, k, v = (split_heads(part, self.heads) for part in (linear(x.flatten(1, 2), of_query), keys, values))
        out: Tensor = self.to_out(join_heads(attend(q, k, v, bias)))
        return out.view(x.shape)

    def bias(self, trust: Tensor) -> Tensor:
        """Return what to add to the logits of the agents' keys: (1, heads, slots * T, agents * T)."""
        cells = len(self.relative_position_index) // self.slots
        index = self.relative_position_index[:, : len(trust) * cells]
        positions: Tensor = self.relative_position_bias_table(index).permute(2, 0, 1)[None]
        return (positions + trust_bias(trust).repeat_interleave(cells)).contiguous()
