"""Fusions of one scale: the maps of a scene's agents are moved into the ego's frame, and a method makes one map of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from heal.config import config
from heal.fusion.interface import AgentLevels, AgentMaps, Fusion, as_batch, foreground_head, per_agent, require_counts
from heal.fusion.warp import Window, affine_rows, is_identity
from heal.grid import BevGrid


@config
class MapFusionConfig:
    """Settings that every fusion of one scale has.

    Attributes:
        foreground: score the foreground of each agent's map by a layer of its own, which learns by the occupancy loss as those of
            Pyramid Fusion do. Codecs choose cells by these scores, and poses are corrected by them. HEAL's networks lack the layer.
    """

    strides: ClassVar[tuple[int, ...]] = (1,)
    upsample_strides: ClassVar[tuple[int, ...]] = (1,)

    foreground: bool = True


@dataclass(frozen=True)
class SceneMaps:
    """The maps of the N agents of one scene, the ego's first; where the ego's is missing, the first agent's stands for it.

    Attributes:
        maps: (N, C, ny, nx) in the ego's frame, zeros outside of an agent's view.
        inside: (N, 1, ny, nx) 1 where an agent's map reaches the cell, 0 where it does not, in between at its border.
        scores: (N, 1, ny, nx) foreground scores in the ego's frame, 0 outside of an agent's view.
        own: N maps (1, C, ny, nx), each in its agent's own frame.
        agent_SE3_ego: (N, 4, 4) float64, maps ego coordinates into the agent's frame.
        trust: (N,) factors on the agents' weights, usually 1.
        agent_types: (N,) names of the agents' types; empty if not known.
        grid: the grid of all maps.
    """

    maps: Tensor
    inside: Tensor
    scores: Tensor
    own: tuple[Tensor, ...]
    agent_SE3_ego: Tensor
    trust: Tensor
    agent_types: tuple[str, ...]
    grid: BevGrid


class MapFusion(Fusion):
    """A fusion of one scale; a method is a subclass with `fuse_scene`.

    An agent's trunk only scores the foreground: the map that is fused is the map that the agent sends.
    """

    def __init__(self, settings: MapFusionConfig, in_channels: int, grid: BevGrid) -> None:
        """Make a fusion for maps of `in_channels` channels on `grid`."""
        super().__init__(grid)
        self.in_channels, self.scores_foreground = in_channels, settings.foreground
        if settings.foreground:
            self.foreground_head = foreground_head(in_channels)

    @abstractmethod
    def fuse_scene(self, scene: SceneMaps) -> Tensor:
        """Fuse the maps of one scene to one map (1, `out_channels`, ny, nx) in the ego's frame."""

    @property
    def out_channels(self) -> int:
        """As many channels as the agents' maps have."""
        return self.in_channels

    def trunk(self, features: Tensor) -> AgentLevels:
        """Score the foreground of maps (M, C, ny, nx), which are the only scale."""
        logits = self.foreground_head(features) if self.scores_foreground else features.new_zeros(features[:, :1].shape)
        return AgentLevels((features,), (logits,))

    def level_shapes(self) -> list[tuple[int, int, int]]:
        """Return the shape (C, ny, nx) of the agents' maps."""
        return [(self.in_channels, self.grid.ny, self.grid.nx)]

    def fuse_scored(
        self,
        maps: Sequence[AgentMaps],
        scores: Sequence[AgentMaps],
        agent_SE3_ego: Tensor,
        agents_per_scene: Sequence[int],
        trust: Tensor | None = None,
        ego_first: bool = True,
        agent_types: Sequence[str] = (),
    ) -> tuple[Tensor, ...]:
        """Move the maps of every scene into its ego's frame and fuse them; arguments as for every fusion."""
        [level], [score] = maps, scores
        require_counts(len(level), agent_SE3_ego, agents_per_scene)
        seen = [_where_scored(*agent) for agent in zip(per_agent(level), per_agent(score), strict=True)]
        factors = torch.ones(len(seen)) if trust is None else trust
        scored, affines = per_agent(score), affine_rows(agent_SE3_ego, self.grid)
        fused, first = [], 0
        for count in agents_per_scene:
            part = slice(first, first + count)
            moved = [_moved(*agent) for agent in zip(seen[part], scored[part], affines[part], strict=True)]
            together, scene_scores, inside = (torch.cat(column) for column in zip(*moved, strict=True))
            poses, types = agent_SE3_ego[part], tuple(agent_types[part])
            weights = factors[part].to(together)
            scene = SceneMaps(together, inside, scene_scores, tuple(seen[part]), poses, weights, types, self.grid)
            fused.append(self.fuse_scene(scene))
            first += count
        return (as_batch(fused),)

    def join(self, fused: Sequence[Tensor]) -> Tensor:
        """Return the only scale."""
        [level] = fused
        return level


def _where_scored(level: Tensor, score: Tensor) -> Tensor:
    """Return a map (1, C, ny, nx) with zeros where its score (1, 1, ny, nx) is zero; without a copy where it is nowhere."""
    return level if bool((score != 0).all()) else level * (score != 0)


def _moved(level: Tensor, score: Tensor, affine: Sequence[float]) -> tuple[Tensor, Tensor, Tensor]:
    """Move an agent's map (1, C, ny, nx) and score (1, 1, ny, nx) into the ego's frame, and tell where the map lies there."""
    if is_identity(affine):
        return level, score, torch.ones_like(score)
    ny, nx = level.shape[-2:]
    window = Window.of(affine, ny, nx, level.device)
    around = (window.columns.start, nx - window.columns.stop, window.rows.start, ny - window.rows.stop)
    level, score, inside = (F.pad(window.sample(part), around) for part in (level, score, torch.ones_like(score)))
    return level, score, inside
