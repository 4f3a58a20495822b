"""Fusions by scene: the maps of a scene's agents are moved into the ego's frame, and a method makes one map of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from heal.config import ConfigError, config
from heal.fusion.interface import AgentLevels, AgentMaps, Fusion, as_batch, foreground_head, per_agent
from heal.fusion.warp import Window, affine_rows, gatherable, is_identity
from heal.grid import BevGrid
from heal.layers.attention import trust_bias


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


def require_at_least_one(settings: object, *names: str) -> None:
    """Raise ConfigError for a setting of a fusion, or an entry of one, that is less than 1."""
    for name in names:
        value = getattr(settings, name)
        if min(value if isinstance(value, tuple) else (value,), default=0) < 1:
            raise ConfigError(f"fusion.{name}: expected 1 or more, got {value}")


@dataclass(frozen=True)
class SceneMaps:
    """The maps of the N agents of one scene, the ego's first; where the ego's is missing, the first agent's stands for it.

    Attributes:
        maps: (N, C, ny, nx) in the ego's frame, zeros outside of an agent's view; of one scale if the fusion has several.
        scores: (N, 1, ny, nx) foreground scores in the ego's frame, 0 outside of an agent's view.
        own: N maps (1, C, ny, nx), each in its agent's own frame.
        own_SE3_ego: (N, 4, 4) float64, maps ego coordinates into the frames of `own`.
        agent_SE3_ego: (N, 4, 4) float64, maps ego coordinates into the agent's frame.
        trust: (N,) factors on the agents' weights, usually 1. The greatest is 1, because only the ratios count, as in Pyramid
            Fusion: the trust in an agent alone changes nothing.
        agent_types: (N,) names of the agents' types; empty if not known.
        grid: the grid of the finest scale.
    """

    maps: Tensor
    scores: Tensor
    own: tuple[Tensor, ...]
    own_SE3_ego: Tensor
    agent_SE3_ego: Tensor
    trust: Tensor
    agent_types: tuple[str, ...]
    grid: BevGrid

    def shares(self, logits: Tensor) -> Tensor:
        """Return the softmax over the agents of logits (N, 1, ny, nx), with trust as a factor before the division by the sum."""
        return (logits + trust_bias(self.trust)[:, None, None, None]).softmax(dim=0)


def weighted_sum(maps: Tensor, weights: Tensor) -> Tensor:
    """Return the sum (1, C, ny, nx) of the maps of N agents (N, C, ny, nx), each times its weights (N, 1, ny, nx)."""
    # One agent after another, so that no copy of all maps is made.
    total = maps[:1] * weights[:1]
    for agent, weight in zip(maps[1:], weights[1:], strict=True):
        total = total.addcmul_(agent[None], weight[None])
    return total


class SceneFusion(Fusion):
    """A fusion of any number of scales, each of which is fused for itself; a method is a subclass with `fuse_scene`."""

    @abstractmethod
    def fuse_scene(self, scene: SceneMaps) -> Tensor:
        """Fuse the maps of one scene and one scale to one map (1, C, ny, nx) in the ego's frame."""

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
        self.require_counts(len(maps[0]), agent_SE3_ego, agents_per_scene)
        factors = torch.ones(len(agent_SE3_ego)) if trust is None else trust
        affines = affine_rows(agent_SE3_ego, self.grid)
        fused = []
        for level, score in zip(maps, scores, strict=True):
            agents = list(zip(per_agent(level), per_agent(score), affines, strict=True))
            scenes, first = [], 0
            for count in agents_per_scene:
                part = slice(first, first + count)
                moved = [_moved(*agent) for agent in agents[part]]
                scene = _scene(moved, agent_SE3_ego[part], factors[part], tuple(agent_types[part]), self.grid)
                scenes.append(self.fuse_scene(scene))
                first += count
            fused.append(as_batch(scenes))
        return tuple(fused)


class MapFusion(SceneFusion):
    """A fusion of one scale.

    An agent's trunk only scores the foreground: the map that is fused is the map that the agent sends.
    """

    def __init__(self, settings: MapFusionConfig, in_channels: int, grid: BevGrid) -> None:
        """Make a fusion for maps of `in_channels` channels on `grid`."""
        super().__init__(grid)
        self.in_channels, self.scores_foreground = in_channels, settings.foreground
        if settings.foreground:
            self.foreground_head = foreground_head(in_channels)

    @property
    def out_channels(self) -> int:
        """As many channels as the agents' maps have."""
        return self.in_channels

    def trunk(self, features: Tensor) -> AgentLevels:
        """Score the foreground of maps (M, C, ny, nx), which are the only scale."""
        return AgentLevels((features,), self.occupancy((features,)))

    def occupancy(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the logits (M, 1, ny, nx) of the foreground of the only scale; zero if no foreground is scored."""
        return tuple(self.foreground_head(level) if self.scores_foreground else torch.zeros_like(level[:, :1]) for level in maps)

    def level_shapes(self) -> list[tuple[int, int, int]]:
        """Return the shape (C, ny, nx) of the agents' maps."""
        return [(self.in_channels, self.grid.ny, self.grid.nx)]

    def join(self, fused: Sequence[Tensor]) -> Tensor:
        """Return the only scale."""
        [level] = fused
        return level


@dataclass(frozen=True)
class _Moved:
    """An agent's map (1, C, ny, nx), in its own and in the ego's frame, with its score (1, 1, ny, nx) in the ego's."""

    own: Tensor
    level: Tensor
    score: Tensor


def _scene(moved: Sequence[_Moved], agent_SE3_ego: Tensor, trust: Tensor, types: tuple[str, ...], grid: BevGrid) -> SceneMaps:
    """Put the maps of a scene's agents together; arguments as the fields of `SceneMaps`."""
    level, score = torch.cat([agent.level for agent in moved]), torch.cat([agent.score for agent in moved])
    own = tuple(agent.own for agent in moved)
    ratios = (trust / trust.max().clamp_min(torch.finfo(trust.dtype).tiny)).to(level)
    return SceneMaps(level, score, own, agent_SE3_ego, agent_SE3_ego, ratios, types, grid)


def _moved(level: Tensor, score: Tensor, affine: Sequence[float]) -> _Moved:
    """Move an agent's map (1, C, ny, nx) and score (1, 1, ny, nx) into the ego's frame; cells without a score become zeros."""
    own = gatherable(level)
    if not bool((score != 0).all()):
        own = own * (score != 0)
    return _Moved(own, *move((own, score), affine))


def move(parts: Sequence[Tensor], affine: Sequence[float]) -> list[Tensor]:
    """Move maps (1, any C, ny, nx) of one agent by an entry of `affine_rows`, with zeros outside of them."""
    if is_identity(affine):
        return list(parts)
    ny, nx = parts[0].shape[-2:]
    window = Window.of(affine, ny, nx, parts[0].device)
    around = (window.columns.start, nx - window.columns.stop, window.rows.start, ny - window.rows.stop)
    moved = [window.sample(part) for part in parts]
    return [F.pad(part, around) for part in moved] if any(around) else moved
