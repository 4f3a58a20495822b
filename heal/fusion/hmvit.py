"""HM-ViT: attention among the cells of agents, with weights for each kind of sensor (Xiang et al. 2023, "HM-ViT", section 3.3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Literal

import torch
from torch import Tensor, nn

from heal.config import ConfigError, config
from heal.errors import UserError
from heal.fusion.map_fusion import MapFusion, MapFusionConfig, SceneMaps, require_at_least_one
from heal.grid import BevGrid
from heal.layers.attention import attend, head_count, join_heads, mask_bias, split_heads, trust_bias
from heal.layers.kinds import KindFeedForward, KindLinear, KindNorm, by_kind
from heal.layers.linear import before_heads
from heal.layers.windows import Windows, relative_index


@config
class HmVitConfig(MapFusionConfig):
    """Settings of HM-ViT.

    Attributes:
        kinds: the kind of sensor of each agent type, such as "lidar" or "camera". Types of one kind have the same weights.
        layers: pairs of local and spread attention.
        window: edge of a window, in cells.
        head_channels: channels of a head.
        hidden: channels between the two layers of a feed-forward step.
        dropout: share of the values that are dropped in training.
    """

    kind: Literal["hmvit"] = "hmvit"
    kinds: Mapping[str, str] = field(default_factory=lambda: {"m1": "lidar", "m2": "camera", "m3": "lidar", "m4": "camera"})
    layers: int = 3
    window: int = 4
    head_channels: int = 32
    hidden: int = 256
    dropout: float = 0.1

    def __post_init__(self) -> None:
        """Raise ConfigError if no agent type has a kind, or for a number that is less than 1."""
        require_at_least_one(self, "layers", "window", "head_channels", "hidden")
        if not self.kinds:
            raise ConfigError("fusion.kinds: expected the kind of sensor of each agent type, such as {m1: lidar, m2: camera}")


class HmVit(MapFusion):
    """Heterogeneous 3D graph attention (H3GAT): the cells of all agents in a window are nodes, whose type is their agent's sensor.

    Norms, queries, keys, values, outputs and feed-forward layers have weights for each kind of node; each ordered pair of kinds has
    matrices that its keys and values are multiplied by. Attention alternates between local windows and cells spread over the map.

    The paper leaves open, or decides for its own detector: sizes (here those of CoBEVT in HEAL, whose windows are the same), the
    encoding of positions (here a bias by the step between rows and columns, none by agent, so that the order of the senders does
    not matter), and a detection head for each kind of ego (here one head for all). The matrices of pairs start as the identity.
    Trust is a factor on an agent's weight in every attention.
    """

    def __init__(self, settings: HmVitConfig, in_channels: int, grid: BevGrid) -> None:
        """Make the layers for maps of `in_channels` channels on `grid`."""
        super().__init__(settings, in_channels, grid)
        names = sorted(set(settings.kinds.values()))
        self._kind_of_type = {agent_type: names.index(kind) for agent_type, kind in settings.kinds.items()}
        windows = [Windows(settings.window), Windows(settings.window, spread=True)] * settings.layers
        self.steps = nn.ModuleList(_Step(settings, in_channels, len(names), kind) for kind in windows)

    def fuse_scene(self, scene: SceneMaps) -> Tensor:
        """Return the ego's map behind the last layer; UserError for an agent of a type without a kind."""
        types = scene.agent_types or [""] * len(scene.maps)
        self.require_types(types)
        kinds = [self._kind_of_type[name] for name in types]
        maps = scene.maps.permute(0, 2, 3, 1)
        for i, step in enumerate(self.steps):
            maps = step(maps, kinds, scene.trust, queries=1 if i == len(self.steps) - 1 else len(maps))
        return maps[:1].permute(0, 3, 1, 2)

    def require_types(self, agent_types: Iterable[str]) -> None:
        """Raise UserError for an agent type without a kind."""
        unknown = [name for name in agent_types if name not in self._kind_of_type]
        if unknown:
            raise UserError(
                f"HM-ViT has weights only for the agent types that it was trained with: expected one of "
                f"{', '.join(self._kind_of_type)}, got {unknown[0] or 'an agent whose type is not told'!r}; train a base whose "
                "fusion.kinds names the type, or take a fusion that new types can join, such as Pyramid Fusion"
            )


class _Step(nn.Module):
    """Attention in windows of one form, and feed-forward layers behind it."""

    def __init__(self, settings: HmVitConfig, channels: int, kinds: int, windows: Windows) -> None:
        super().__init__()
        self._windows = windows
        self.attention_norm, self.feed_norm = KindNorm(kinds, channels), KindNorm(kinds, channels)
        self.attention = _GraphAttention(settings, channels, kinds)
        self.feed_forward = KindFeedForward(kinds, channels, settings.hidden, settings.dropout)

    def forward(self, maps: Tensor, kinds: Sequence[int], trust: Tensor, queries: int) -> Tensor:
        """Compute the maps (`queries`, ny, nx, C) of the first agents from those of all agents (N, ny, nx, C)."""
        relations = {kind: self.attention.related(kind) for kind in set(kinds[:queries])}

        def compute(cells: Tensor, inside: Tensor | None) -> Tensor:
            normed = self.attention_norm(cells, kinds)
            x = cells[:, :queries] + self.attention(normed, kinds, relations, _key_bias(cells, trust, inside), queries)
            out: Tensor = x + self.feed_forward(self.feed_norm(x, kinds[:queries]), kinds[:queries])
            return out

        return self._windows.apply(maps, compute)


def _key_bias(cells: Tensor, trust: Tensor, inside: Tensor | None) -> Tensor:
    """Return what to add to the logits of the keys of windows (X, N, T, C): (1 or X, 1, 1, N * T)."""
    agents = trust_bias(trust).repeat_interleave(cells.shape[2])[None]
    return (agents if inside is None else agents + mask_bias(inside).repeat(1, len(trust)))[:, None, None]


class _Relation:
    """The weights of keys and values for queries of one kind, the matrices of pairs included: of each kind of key, (K, out, in)."""

    def __init__(self, attention: _GraphAttention, target: int) -> None:
        pairs = attention.relation_att[:, target], attention.relation_msg[:, target]
        self.key, self.key_bias = before_heads(attention.keys.weight, attention.keys.bias, pairs[0])
        self.value, self.value_bias = before_heads(attention.values.weight, attention.values.bias, pairs[1])


class _GraphAttention(nn.Module):
    """Attention of the first agents' cells to the cells of all agents in a window."""

    index: Tensor

    def __init__(self, settings: HmVitConfig, channels: int, kinds: int) -> None:
        super().__init__()
        size, self.heads = settings.window, head_count(channels, settings.head_channels)
        self.queries, self.keys, self.values, self.out = (KindLinear(kinds, channels, channels) for _ in range(4))
        identity = torch.eye(settings.head_channels).expand(kinds, kinds, self.heads, -1, -1)
        self.relation_att, self.relation_msg = nn.Parameter(identity.clone()), nn.Parameter(identity.clone())
        self.position_bias = nn.Parameter(torch.zeros(self.heads, (2 * size - 1) ** 2))
        self.drop = nn.Dropout(settings.dropout)
        self.register_buffer("index", relative_index((size, size)), persistent=False)

    def related(self, target: int) -> _Relation:
        """Return the weights of keys and values for queries of the kind `target`."""
        return _Relation(self, target)

    def forward(
        self, x: Tensor, kinds: Sequence[int], relations: Mapping[int, _Relation], key_bias: Tensor, queries: int
    ) -> Tensor:
        """Compute the first `queries` agents' cells (X, `queries`, T, C) from those of all agents (X, N, T, C)."""
        asked = self.queries(x[:, :queries], kinds[:queries])
        steps = self.position_bias[:, self.index].repeat(1, 1, x.shape[1])[None]
        found = torch.empty_like(asked)
        for kind, relation in relations.items():
            rows = [i for i in range(queries) if kinds[i] == kind]
            keys = by_kind(x, relation.key, relation.key_bias, kinds)
            values = by_kind(x, relation.value, relation.value_bias, kinds)
            q, k, v = (split_heads(part.flatten(1, 2), self.heads) for part in (asked[:, rows], keys, values))
            bias = steps.repeat(1, 1, len(rows), 1) + key_bias
            found[:, rows] = join_heads(attend(q, k, v, bias)).view(len(x), len(rows), *x.shape[2:])
        out: Tensor = self.drop(self.out(found, kinds[:queries]))
        return out
