"""MPDA: senders' maps are adapted to the ego's domain before another fusion joins them.

Xu et al. 2023, "Bridging the Domain Gap for Multi-Agent Perception", section III.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heal.config import ByKind, config
from heal.errors import UserError
from heal.fusion.map_fusion import MapFusion, MapFusionConfig, SceneMaps, require_at_least_one
from heal.fusion.v2xvit import V2xVitConfig
from heal.grid import BevGrid
from heal.layers.attention import FeedForward, PreNorm, attend, head_count, join_heads, mask_bias, split_heads
from heal.layers.linear import Linear
from heal.layers.memory_layout import split_batch
from heal.layers.reversal import reverse_gradient
from heal.layers.windows import Windows, relative_index
from heal.plugins import REMEDY

if TYPE_CHECKING:
    from heal.fusion.table import FusionConfig
else:

    def _fusions() -> Any:
        from heal.fusion.table import known_fusions

        return known_fusions()

    FusionConfig = Annotated[Any, ByKind(_fusions, REMEDY)]


@config
class MpdaConfig(MapFusionConfig):
    """Settings of MPDA.

    Attributes:
        fused_by: the fusion of one scale that joins the adapted maps; its `foreground` has no meaning.
        layers: pairs of local and spread attention of the cross-domain transformer.
        window: edge of a window, in cells.
        head_channels: channels of a head.
        hidden: channels between the two layers of a feed-forward step.
        dropout: share of the values that are dropped in training.
        domain_weight: weight of the domain classifier's loss.
    """

    kind: Literal["mpda"] = "mpda"
    fused_by: FusionConfig = V2xVitConfig()
    layers: int = 1
    window: int = 4
    head_channels: int = 32
    hidden: int = 256
    dropout: float = 0.1
    domain_weight: float = 0.1

    def __post_init__(self) -> None:
        """Raise ConfigError for a number that is less than 1."""
        require_at_least_one(self, "window", "head_channels", "hidden")


class Mpda(MapFusion):
    """A resizer and a cross-domain transformer for each sender's map (section III), then a fusion of another method.

    The resizer is the part for channels: all maps of an alliance have one grid and one number of channels. In the transformer, the
    ego's cells ask and the sender's cells answer, in local windows and in cells spread over the map; the answers are added to the
    sender's map, which stays empty outside of the sender's view. A classifier learns to tell the cells of the ego's domain from
    those of the senders, and its gradient, reversed, teaches resizer and transformer to hide the difference.

    The paper leaves open, or decides for two fixed models: the sizes (here those of CoBEVT in HEAL, with one layer), and the weight
    of the classifier's loss. Here agents of the ego's type are of the ego's domain. Trust acts in the fusion that follows.
    """

    def __init__(self, settings: MpdaConfig, in_channels: int, grid: BevGrid) -> None:
        """Make the layers for maps of `in_channels` channels on `grid`; UserError for a fusion of several scales inside."""
        from heal.fusion.table import make_fusion

        super().__init__(settings, in_channels, grid)
        inside: Any = settings.fused_by
        inner = make_fusion(replace(inside, foreground=settings.foreground), in_channels, grid)
        if not isinstance(inner, MapFusion) or isinstance(inner, Mpda):
            raise UserError(f"fusion.fused_by: expected a fusion of one scale other than MPDA, got {settings.fused_by.kind}")
        if settings.foreground:
            del inner.foreground_head  # The scores are those of this fusion.
        self.fused_by, self._weight = inner, settings.domain_weight
        self.resizer = Linear(in_channels, in_channels)
        nn.init.eye_(self.resizer.weight)
        windows = [Windows(settings.window), Windows(settings.window, spread=True)] * settings.layers
        self.steps = nn.ModuleList(_CrossStep(settings, in_channels, kind) for kind in windows)
        self.classifier = nn.Sequential(nn.Linear(in_channels, in_channels), nn.ReLU(), nn.Linear(in_channels, 1))
        self._losses: list[Tensor] = []

    @property
    def out_channels(self) -> int:
        """As many channels as the fusion inside has."""
        return self.fused_by.out_channels

    def fuse_scene(self, scene: SceneMaps) -> Tensor:
        """Fuse the ego's map and the adapted maps of the senders; in training, note the classifier's loss."""
        adapted = self._adapted(scene)
        if self.training:
            self._losses += self._domain_loss(scene, adapted)
        poses = torch.eye(4, dtype=torch.float64, device=scene.agent_SE3_ego.device).expand(len(adapted), 4, 4)
        return self.fused_by.fuse_scene(replace(scene, maps=adapted, own=split_batch(adapted), own_SE3_ego=poses))

    def require_types(self, agent_types: Iterable[str]) -> None:
        """Raise UserError if the fusion inside cannot take agents of these types."""
        self.fused_by.require_types(agent_types)

    def extra_loss(self) -> Tensor | None:
        """Return the classifier's weighted loss, the mean over the scenes with agents of another domain."""
        losses, self._losses = self._losses, []
        return self._weight * torch.stack(losses).mean() if losses else None

    def _adapted(self, scene: SceneMaps) -> Tensor:
        """Return the maps (N, C, ny, nx), those of the senders adapted to the ego's domain."""
        if len(scene.maps) == 1:
            return scene.maps
        channels_last = scene.maps.permute(0, 2, 3, 1)
        maps = torch.cat([channels_last[:1], self.resizer(channels_last[1:])])
        for step in self.steps:
            maps = step(maps)
        return torch.cat([scene.maps[:1], maps[1:].permute(0, 3, 1, 2) * (scene.scores[1:] > 0)])

    def _domain_loss(self, scene: SceneMaps, maps: Tensor) -> list[Tensor]:
        """Return the classifier's loss in the cells that the agents see; empty if all agents are of the ego's domain."""
        own = _of_ego_domain(scene.agent_types, len(maps))
        if all(own):
            return []
        logits = self.classifier(reverse_gradient(maps).permute(0, 2, 3, 1))[..., 0]
        domain = torch.tensor(own).to(logits)[:, None, None].expand_as(logits)
        seen = scene.scores[:, 0] > 0
        return [F.binary_cross_entropy_with_logits(logits[seen], domain[seen])]


def _of_ego_domain(types: Sequence[str], agents: int) -> list[bool]:
    """Return for each agent whether it has the ego's type; the ego alone has, if no types are known."""
    return [name == types[0] for name in types] if types else [i == 0 for i in range(agents)]


class _CrossStep(nn.Module):
    """Attention of the ego's cells to each sender's in windows of one form, and a feed-forward step."""

    index: Tensor

    def __init__(self, settings: MpdaConfig, channels: int, windows: Windows) -> None:
        super().__init__()
        self._windows, self.heads = windows, head_count(channels, settings.head_channels)
        self.ego_norm, self.sender_norm = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.to_q, self.to_kv = Linear(channels, channels, bias=False), Linear(channels, 2 * channels, bias=False)
        self.to_out = nn.Sequential(Linear(channels, channels), nn.Dropout(settings.dropout))
        self.position_bias = nn.Parameter(torch.zeros(self.heads, (2 * settings.window - 1) ** 2))
        self.feed_forward = PreNorm(channels, FeedForward(channels, settings.hidden, settings.dropout))
        self.register_buffer("index", relative_index((settings.window, settings.window)), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Compute maps (N, ny, nx, C), of which the first is the ego's and stays as it is."""
        return self._windows.apply(maps, self._compute)

    def _compute(self, cells: Tensor, inside: Tensor | None) -> Tensor:
        """Compute the cells (X, N, T, C) of windows."""
        ego, senders = cells[:, :1], cells[:, 1:]
        adapted = self.feed_forward(senders + self._attended(ego, senders, inside))
        return torch.cat([ego, adapted], dim=1)

    def _attended(self, ego: Tensor, senders: Tensor, inside: Tensor | None) -> Tensor:
        """Return what the ego's cells (X, 1, T, C) ask of the senders' (X, S, T, C): (X, S, T, C)."""
        bias = self.position_bias[:, self.index][None]
        if inside is not None:
            bias = (bias + mask_bias(inside)[:, None, None]).repeat_interleave(senders.shape[1], dim=0)
        asked = self.to_q(self.ego_norm(ego)).expand_as(senders)
        answers = self.to_kv(self.sender_norm(senders)).chunk(2, dim=-1)
        q, k, v = (split_heads(part.flatten(0, 1), self.heads) for part in (asked, *answers))
        out: Tensor = self.to_out(join_heads(attend(q, k, v, bias)))
        return out.view(senders.shape)
