"""Pyramid Fusion: at each of several scales, agents are weighed by the foreground that they see (HEAL, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from heal.config import config
from heal.fusion.warp import Window, affine_rows, coverage_mask
from heal.grid import BevGrid
from heal.layers.memory_layout import split_rows, zeros_as
from heal.layers.residual import ResidualStages, Upsample
from heal.types import SCORE_FLOOR

# One (M, C, ny, nx), or M times (1, C, ny, nx).
Agents: TypeAlias = "Tensor | Sequence[Tensor]"

# A pose as `affine_rows` has it that moves nothing, to a billionth of the map.
_IDENTITY, _STILL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), 1e-9

# Foreground is rare: a fresh network says so everywhere, which spares the focal losses their first hundreds of steps.
RARE_LOGIT = -4.6


@config
class PyramidConfig:
    """Scales of the pyramid.

    Attributes:
        blocks: residual blocks of each scale.
        strides: of each scale, to the one before.
        channels: of each scale.
        groups: of the grouped convolutions; 0 for plain residual blocks.
        base_width: inner channels per group, for 64 channels.
        upsample_strides: enlargement of each fused scale.
        upsample_channels: of each enlarged scale; they are joined.
    """

    blocks: tuple[int, ...] = (3, 5, 8)
    strides: tuple[int, ...] = (1, 2, 2)
    channels: tuple[int, ...] = (64, 128, 256)
    groups: int = 32
    base_width: int = 4
    upsample_strides: tuple[float, ...] = (1, 2, 4)
    upsample_channels: tuple[int, ...] = (128, 128, 128)


@dataclass(frozen=True)
class PyramidLevels:
    """Maps of M agents at every scale, from the finest on, each in its agent's frame.

    Attributes:
        maps: per scale (M, C, ny, nx).
        occupancy: per scale (M, 1, ny, nx), logits of the foreground.
    """

    maps: tuple[Tensor, ...]
    occupancy: tuple[Tensor, ...]


class PyramidFusion(nn.Module):
    """The trunk, which every agent's map passes on its own, and the fusion of its scales."""

    def __init__(self, settings: PyramidConfig, in_channels: int, grid: BevGrid) -> None:
        """For maps with `in_channels` on `grid`."""
        super().__init__()
        self.config, self.grid = settings, grid
        self.resnet = ResidualStages(
            in_channels, settings.blocks, settings.strides, settings.channels, settings.groups, settings.base_width
        )
        for i, width in enumerate(settings.channels):
            head = nn.Conv2d(width, 1, 1)
            nn.init.constant_(head.bias, RARE_LOGIT)  # type: ignore[arg-type]
            self.add_module(f"single_head_{i}", head)
        self.deblocks = Upsample(settings.channels, settings.upsample_strides, settings.upsample_channels)

    def trunk(self, features: Tensor) -> PyramidLevels:
        """What each agent's map (M, C, ny, nx) becomes on its own; it may run on either side of a link."""
        maps = self.resnet(features)
        return PyramidLevels(maps, tuple(self.get_submodule(f"single_head_{i}")(level) for i, level in enumerate(maps)))

    def level_shapes(self) -> list[tuple[int, int, int]]:
        """(C, ny, nx) of every scale's maps, the finest first."""
        shapes, ny, nx = [], self.grid.ny, self.grid.nx
        for channels, stride in zip(self.config.channels, self.config.strides, strict=True):
            ny, nx = -(-ny // stride), -(-nx // stride)
            shapes.append((channels, ny, nx))
        return shapes

    def fuse_levels(
        self,
        levels: PyramidLevels,
        agent_SE3_ego: Tensor,
        agents_per_scene: Sequence[int],
        coverage: Sequence[tuple[float, float] | None] | None = None,
    ) -> tuple[Tensor, ...]:
        """Fuse the M agents of B scenes at every scale.

        Args:
            levels: of all agents, scene after scene, each scene's ego first.
            agent_SE3_ego: (M, 4, 4) float64, maps ego coordinates into the agent's frame.
            agents_per_scene: (B) numbers of agents; their sum is M.
            coverage: (M) for a camera agent the shared range over its own, in x and y. It acts in eval mode only.

        Returns:
            Per scale (B, C, ny, nx), in the frames of the egos.
        """
        return self.fuse_scored(levels.maps, self.scores(levels.occupancy, coverage), agent_SE3_ego, agents_per_scene)

    def scores(
        self, occupancy: Sequence[Tensor], coverage: Sequence[tuple[float, float] | None] | None = None
    ) -> tuple[Tensor, ...]:
        """Foreground scores (M, 1, ny, nx) in (0, 1 + 1e-4] of every scale's logits; 0 where an agent's sensors do not reach."""
        found = []
        for logits in occupancy:
            # In single precision also where the networks run in half: the floor would be lost beside a score of 1.
            scores = logits.float().sigmoid() + SCORE_FLOOR
            if coverage is not None and any(coverage) and not self.training:
                scores = scores * _coverage(coverage, scores)
            found.append(scores)
        return tuple(found)

    def fuse_scored(
        self,
        maps: Sequence[Agents],
        scores: Sequence[Agents],
        agent_SE3_ego: Tensor,
        agents_per_scene: Sequence[int],
        trust: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """As `fuse_levels`, from maps and scores of every scale.

        Args:
            maps: per scale of all agents, scene after scene, (M, C, ny, nx) or M times (1, C, ny, nx).
            scores: foreground scores, likewise with one channel; 0 where an agent says nothing.
            agent_SE3_ego: as in `fuse_levels`.
            agents_per_scene: as in `fuse_levels`.
            trust: (M,) factors on the agents' weights; None trusts all alike.
        """
        agents = len(maps[0])
        if sum(agents_per_scene) != agents or len(agent_SE3_ego) != agents or any(n < 1 for n in agents_per_scene):
            raise ValueError(f"{agents} maps, {len(agent_SE3_ego)} poses, but {list(agents_per_scene)} agents in the scenes")
        alone = agents == len(agents_per_scene) and torch.allclose(agent_SE3_ego, torch.eye(4).to(agent_SE3_ego))
        # A lone agent need not be the ego: where the ego's own map is missing, another's is still to be moved into its frame.
        moves = None if alone else affine_rows(agent_SE3_ego, self.grid)
        if moves is None:
            return tuple(_said(_together(level), _together(score)) for level, score in zip(maps, scores, strict=True))
        levels = [(_each(level), _each(score)) for level, score in zip(maps, scores, strict=True)]
        return tuple(self._fuse(level, score, moves, agents_per_scene, trust) for level, score in levels)

    def join(self, fused: Sequence[Tensor]) -> Tensor:
        """Bring fused scales to the finest one's size and join them: (B, sum of upsample channels, ny, nx)."""
        joined: Tensor = self.deblocks(fused)
        return joined

    def _fuse(
        self,
        maps: Sequence[Tensor],
        scores: Sequence[Tensor],
        moves: Sequence[Sequence[float]],
        agents_per_scene: Sequence[int],
        trust: Tensor | None,
    ) -> Tensor:
        """The mean of each scene's maps, weighted by a softmax of their scores where they are not zero."""
        # One agent after the other: no copy of all maps, and the same sum on every device.
        moved = [_move(*agent) for agent in zip(maps, scores, moves, strict=True)]
        factors = [1.0] * len(moved) if trust is None else trust.tolist()
        fused, first = [], 0
        for count in agents_per_scene:
            scene = slice(first, first + count)
            fused.append(_weighted_mean(maps[first].shape, moved[scene], factors[scene]))
            first += count
        return _together(fused)


@dataclass(frozen=True)
class _Moved:
    """An agent's map (1, C, rows, columns) and scores (1, 1, rows, columns) in a part of the ego's map, and which part that is."""

    level: Tensor
    score: Tensor
    part: tuple[Any, ...]


def _said(level: Tensor, score: Tensor) -> Tensor:
    """Lone agents' maps where they say something."""
    # In training they mostly speak everywhere: then no copy is made that the gradient would have to pass.
    return level if level.requires_grad and bool((score != 0).all()) else level * (score != 0)


def _move(level: Tensor, score: Tensor, affine: Sequence[float]) -> _Moved:
    if level.requires_grad and all(abs(a - b) < _STILL for a, b in zip(affine, _IDENTITY, strict=True)):
        # The ego's own: sampling it would give the same, at some cost in time and memory.
        return _Moved(level, score, (...,))
    window = Window.of(affine, level.shape[-2], level.shape[-1], level.device)
    return _Moved(window.sample(level), window.sample(score), (..., window.rows, window.columns))


def _each(agents: Agents) -> Sequence[Tensor]:
    """Every agent's own (1, C, ny, nx)."""
    return split_rows(agents) if isinstance(agents, Tensor) else agents


def _together(agents: Agents) -> Tensor:
    """(M, C, ny, nx); no copy of what lies together already."""
    if isinstance(agents, Tensor):
        return agents
    return agents[0] if len(agents) == 1 else torch.cat(tuple(agents))


def _weighted_mean(shape: torch.Size, agents: Sequence[_Moved], factors: Sequence[float]) -> Tensor:
    """A scene's map of `shape` (1, C, ny, nx) from its agents' and factors on their weights; zero where all weights are."""
    like = agents[0].score
    total, mean = like.new_zeros(1, 1, *shape[-2:]), zeros_as(agents[0].level, shape)
    weights = []
    for agent, factor in zip(agents, factors, strict=True):
        # Scores are at most 1, so their exponentials need no shift.
        weights.append(torch.where(agent.score == 0, torch.zeros_like(agent.score), agent.score.exp() * factor))
        total[agent.part] += weights[-1]
    total = torch.where(total == 0, torch.ones_like(total), total)
    for agent, weight in zip(agents, weights, strict=True):
        mean[agent.part].addcmul_(agent.level, (weight / total[agent.part]).to(mean.dtype))
    return mean


def _coverage(coverage: Sequence[tuple[float, float] | None], scores: Tensor) -> Tensor:
    ny, nx = scores.shape[-2:]
    return torch.stack([coverage_mask(ratio or (1e-6, 1e-6), ny, nx) for ratio in coverage])[:, None].to(scores)
