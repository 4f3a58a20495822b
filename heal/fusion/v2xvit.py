"""V2X-ViT: attention among the agents in every cell, then in windows of several sizes (Xu et al. 2022, "V2X-ViT", section 3.3)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from heal.config import ConfigError, config
from heal.fusion.map_fusion import MapFusion, MapFusionConfig, SceneMaps, require_at_least_one
from heal.grid import BevGrid
from heal.layers.attention import FeedForward, PreNorm, attend, join_heads, mask_bias, split_heads, trust_bias
from heal.layers.linear import Linear, before_heads, linear
from heal.layers.windows import Windows, relative_index

# HEAL's networks have weights for two types of agents and their four relations, and for three priors of an agent.
_TYPES, _PRIORS = 2, 3


@config
class V2xVitConfig(MapFusionConfig):
    """Settings of V2X-ViT; the defaults are those of HEAL's baseline.

    Attributes:
        layers: number of layers.
        blocks: pairs of attention among agents and attention in windows in each layer.
        heads: heads of the attention among agents.
        head_channels: channels of each of them.
        windows: edges of the windows, in cells; the attention in windows of each size has its own weights.
        window_heads: heads of the attention in windows, for each size.
        window_head_channels: channels of each of them, for each size.
        hidden: channels between the two layers of a feed-forward step.
        dropout: share of the values that are dropped in training.
    """

    kind: Literal["v2xvit"] = "v2xvit"
    layers: int = 3
    blocks: int = 1
    heads: int = 8
    head_channels: int = 32
    windows: tuple[int, ...] = (4, 8, 16)
    window_heads: tuple[int, ...] = (16, 8, 4)
    window_head_channels: tuple[int, ...] = (16, 32, 64)
    hidden: int = 256
    dropout: float = 0.3

    def __post_init__(self) -> None:
        """Raise ConfigError unless every size of windows has its heads and their channels, and for a number that is less than 1."""
        require_at_least_one(self, "layers", "blocks", "heads", "head_channels", "hidden")
        require_at_least_one(self, "windows", "window_heads", "window_head_channels")
        counts = len(self.windows), len(self.window_heads), len(self.window_head_channels)
        if len(set(counts)) != 1:
            raise ConfigError(
                f"expected as many window_heads and window_head_channels as windows, got {counts[1]}, {counts[2]} and {counts[0]}"
            )


class V2xVit(MapFusion):
    """Heterogeneous attention among agents (section 3.3), attention in windows of several sizes, and feed-forward steps.

    The paper tells vehicles from infrastructure; HEAL gives all agents the first of the two types, leaves out the encoding of time,
    and stores the weights of the other type and of the priors all the same. They are here for the sake of its checkpoints, and
    nothing reads them. Cells outside of an agent's view take part as zeros. Trust is a factor on an agent's weight in the attention
    among agents.
    """

    def __init__(self, settings: V2xVitConfig, in_channels: int, grid: BevGrid) -> None:
        """Make the layers for maps of `in_channels` channels on `grid`."""
        super().__init__(settings, in_channels, grid)
        self.encoder = _Encoder(settings, in_channels)

    def fuse_scene(self, scene: SceneMaps) -> Tensor:
        """Return the ego's map behind the last layer."""
        fused: Tensor = self.encoder(scene.maps.permute(0, 2, 3, 1), scene.trust)
        return fused.permute(0, 3, 1, 2)


class _Encoder(nn.Module):
    """The layers; their weights have the names of HEAL's checkpoints."""

    def __init__(self, settings: V2xVitConfig, channels: int) -> None:
        super().__init__()
        self.prior_feed = nn.Linear(channels + _PRIORS, channels)
        self.layers = nn.ModuleList(_Layer(settings, channels) for _ in range(settings.layers))

    def forward(self, maps: Tensor, trust: Tensor) -> Tensor:
        """Turn the agents' maps (N, ny, nx, C) into the ego's map (1, ny, nx, C)."""
        for i, layer in enumerate(self.layers):
            maps = layer(maps, trust, ego_only=i == len(self.layers) - 1)
        return maps[:1]


class _Layer(nn.ModuleList):
    """Blocks of attention, and a feed-forward step."""

    def __init__(self, settings: V2xVitConfig, channels: int) -> None:
        feed_forward = FeedForward(channels, settings.hidden, settings.dropout)
        super().__init__((_Blocks(settings, channels), PreNorm(channels, feed_forward)))

    def forward(self, maps: Tensor, trust: Tensor, ego_only: bool) -> Tensor:
        """Compute maps (N, ny, nx, C); of the ego alone if nobody reads the others."""
        blocks, feed_forward = self
        return Windows(1).apply(blocks(maps, trust, ego_only), lambda cells, _: feed_forward(cells))


class _Blocks(nn.Module):
    """Attention among agents, then in windows, several times."""

    def __init__(self, settings: V2xVitConfig, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Block(settings, channels) for _ in range(settings.blocks))

    def forward(self, maps: Tensor, trust: Tensor, ego_only: bool) -> Tensor:
        """Compute maps (N, ny, nx, C); of the ego alone if nobody reads the others."""
        for i, block in enumerate(self.layers):
            maps = block(maps, trust, queries=1 if ego_only and i == len(self.layers) - 1 else len(maps))
        return maps


class _Block(nn.ModuleList):
    """A step of attention among agents, and one in windows."""

    def __init__(self, settings: V2xVitConfig, channels: int) -> None:
        windows = PreNorm(channels, _PyramidWindows(settings, channels))
        super().__init__((_AgentStep(channels, _AgentAttention(settings, channels)), windows))

    def forward(self, maps: Tensor, trust: Tensor, queries: int) -> Tensor:
        """Compute the first `queries` of the maps (N, ny, nx, C)."""
        among_agents, in_windows = self
        out: Tensor = in_windows(among_agents(maps, trust, queries))
        return out


class _AgentStep(PreNorm):
    """A step of attention among agents, cell by cell."""

    fn: _AgentAttention

    def forward(self, maps: Tensor, *others: Any) -> Tensor:
        """Compute the first maps (N, ny, nx, C); `others` are the factors of trust and the number of the first maps."""
        trust, queries = others
        keys_and_values = self.fn.keys_and_values()

        def compute(cells: Tensor, _: Tensor | None) -> Tensor:
            x = cells.squeeze(2)
            out: Tensor = x[:, :queries] + self.fn(self.norm(x), *keys_and_values, trust, queries)
            return out.unsqueeze(2)

        return Windows(1).apply(maps, compute)


class _AgentAttention(nn.Module):
    """Attention among the agents in a cell, with matrices for keys and values by the relation of two agents (equations 3 to 5)."""

    def __init__(self, settings: V2xVitConfig, channels: int) -> None:
        super().__init__()
        self.heads, inner = settings.heads, settings.heads * settings.head_channels
        self.k_linears, self.q_linears, self.v_linears = (_for_all_types(channels, inner) for _ in range(3))
        self.a_linears = _for_all_types(inner, channels)
        self.drop = nn.Dropout(settings.dropout)
        shape = (_TYPES**2, settings.heads, settings.head_channels, settings.head_channels)
        self.relation_att, self.relation_msg = (nn.Parameter(nn.init.xavier_uniform_(torch.empty(shape))) for _ in range(2))

    def keys_and_values(self) -> tuple[Tensor, Tensor]:
        """Return the weight and the bias of keys and values, the matrices of the relation included."""
        pairs = (self.k_linears[0], self.relation_att[0]), (self.v_linears[0], self.relation_msg[0].mT)
        parts = (before_heads(layer.get_parameter("weight"), layer.get_parameter("bias"), matrices) for layer, matrices in pairs)
        weights, biases = zip(*parts, strict=True)
        return torch.cat(weights), torch.cat(biases)

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor, trust: Tensor, queries: int) -> Tensor:
        """Compute the vectors (X, `queries`, C) of the first agents from those of all agents (X, N, C) in X cells."""
        vectors = self.q_linears[0](x[:, :queries]), *linear(x, weight, bias).chunk(2, dim=-1)
        q, k, v = (split_heads(part, self.heads) for part in vectors)
        out: Tensor = self.drop(self.a_linears[0](join_heads(attend(q, k, v, trust_bias(trust)[None]))))
        return out


def _for_all_types(in_channels: int, out_channels: int) -> nn.ModuleList:
    """Make a linear layer for each type of agents; only the first type's is used."""
    return nn.ModuleList(Linear(in_channels, out_channels) for _ in range(_TYPES))


class _PyramidWindows(nn.Module):
    """Attention in windows of several sizes, whose results are weighted for each agent and channel (section 3.3, MSwin)."""

    def __init__(self, settings: V2xVitConfig, channels: int) -> None:
        super().__init__()
        kinds = zip(settings.windows, settings.window_heads, settings.window_head_channels, strict=True)
        self.pwmsa = nn.ModuleList(_WindowAttention(channels, *kind, settings.dropout) for kind in kinds)
        self.split_attn = _SplitAttention(channels, len(settings.windows))

    def forward(self, maps: Tensor) -> Tensor:
        """Compute maps (N, ny, nx, C)."""
        out: Tensor = self.split_attn([attention(maps) for attention in self.pwmsa])
        return out


class _WindowAttention(nn.Module):
    """Attention among the cells of a window of one agent's map, biased by the step from cell to cell."""

    index: Tensor

    def __init__(self, channels: int, size: int, heads: int, head_channels: int, dropout: float) -> None:
        super().__init__()
        self.heads, self._windows = heads, Windows(size)
        self.pos_embedding = nn.Parameter(torch.randn(2 * size - 1, 2 * size - 1))
        self.to_qkv = Linear(channels, 3 * heads * head_channels, bias=False)
        self.to_out = nn.Sequential(Linear(heads * head_channels, channels), nn.Dropout(dropout))
        # HEAL counts the steps from the query to the key.
        self.register_buffer("index", relative_index((size, size)).T.contiguous(), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Compute maps (N, ny, nx, C)."""
        bias = self.pos_embedding.flatten()[self.index]
        return self._windows.apply(maps, lambda x, inside: self._attend(x, bias, inside))

    def _attend(self, x: Tensor, bias: Tensor, inside: Tensor | None) -> Tensor:
        """Compute the cells (X, N, T, C) of windows, with a bias (T, T) for each pair of cells."""
        if inside is not None:
            bias = (bias + mask_bias(inside)[:, None]).repeat_interleave(x.shape[1], dim=0)[:, None]
        q, k, v = (split_heads(part, self.heads) for part in self.to_qkv(x.flatten(0, 1)).chunk(3, dim=-1))
        out: Tensor = self.to_out(join_heads(attend(q, k, v, bias)))
        return out.view(x.shape)


class _SplitAttention(nn.Module):
    """Weighs several maps by a softmax for each channel, which depends on the mean of their sum (Zhang et al. 2020, "ResNeSt")."""

    def __init__(self, channels: int, maps: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, channels, bias=False)
        self.bn1 = nn.LayerNorm(channels)
        self.fc2 = nn.Linear(channels, maps * channels, bias=False)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return the weighted sum of maps, each (N, ny, nx, C)."""
        mean = torch.stack([one.mean(dim=(1, 2)) for one in maps]).sum(dim=0)
        logits = self.fc2(self.bn1(self.fc1(mean)).relu()).view(len(mean), len(maps), -1)
        weights = logits.softmax(dim=1)[:, :, None, None].unbind(dim=1)
        total: Tensor = maps[0] * weights[0]
        for one, weight in zip(maps[1:], weights[1:], strict=True):
            total = torch.addcmul(total, one, weight)
        return total
