"""What a base needs of a fusion: the scales of each agent's map, foreground scores, and one map for each scene."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from heal.encoders.covered import level_mask
from heal.errors import UserError
from heal.fusion.warp import coverage_mask
from heal.grid import BevGrid
from heal.layers.memory_layout import split_batch
from heal.types import SCORE_FLOOR, BoolMask

# What an agent's sensors cover: the grid's range over the encoder's own, in x and y; or the blocks (rows, columns) of
# `heal.encoders.covered` as a bool tensor; or None for the whole grid.
Coverage: TypeAlias = "tuple[float, float] | Tensor | None"

# The maps of M agents: one tensor (M, C, ny, nx), or M tensors (1, C, ny, nx).
AgentMaps: TypeAlias = "Tensor | Sequence[Tensor]"

# Logit of a foreground of 1 percent, the bias of new heads: foreground is rare, and so the focal losses start hundreds of steps
# ahead.
RARE_LOGIT = -4.6


def coverage_of(ratio: tuple[float, float] | None, blocks: BoolMask | None) -> Coverage:
    """Return what an agent's sensors cover: its blocks (rows, columns) if it tells them, else the ratio of its encoder's range."""
    return ratio if blocks is None else torch.from_numpy(blocks)


def foreground_head(channels: int) -> nn.Conv2d:
    """Make the layer that scores the foreground of a map with so many channels."""
    head = nn.Conv2d(channels, 1, 1)
    nn.init.constant_(head.bias, RARE_LOGIT)  # type: ignore[arg-type]
    return head


@dataclass(frozen=True)
class AgentLevels:
    """The maps of M agents at every scale of a fusion, the finest first, each in its agent's frame.

    Attributes:
        maps: per scale (M, C, ny, nx).
        occupancy: per scale (M, 1, ny, nx), logits of the foreground.
    """

    maps: tuple[Tensor, ...]
    occupancy: tuple[Tensor, ...]


class Fusion(nn.Module, ABC):
    """The part of a base between the agents' maps and the heads.

    Its first step, `trunk`, works on each agent's map alone, and can run on either side of a link. `fuse_scored` and `join` turn
    the maps of several agents into one map for each scene.

    Attributes:
        grid: the grid of the agents' maps.
        scores_foreground: whether the logits of `trunk` tell where vehicles are. If not, every score is 1: no codec can choose
            cells by them, and no pose is corrected by them.
    """

    scores_foreground = True

    def __init__(self, grid: BevGrid) -> None:
        """Make a fusion of maps on a grid."""
        super().__init__()
        self.grid = grid

    @property
    @abstractmethod
    def out_channels(self) -> int:
        """Channels of the fused map that `join` returns."""

    @abstractmethod
    def trunk(self, features: Tensor) -> AgentLevels:
        """Compute the scales of maps (M, C, ny, nx), each agent on its own."""

    @abstractmethod
    def occupancy(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the logits (M, 1, ny, nx) of the foreground of every scale (M, C, ny, nx), as `trunk` computes them."""

    @abstractmethod
    def level_shapes(self) -> list[tuple[int, int, int]]:
        """Return the shape (C, ny, nx) of every scale's maps, the finest first."""

    @abstractmethod
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
        """Fuse the M agents of B scenes at every scale, from maps and foreground scores.

        Args:
            maps: per scale the maps of all agents, scene after scene, (M, C, ny, nx) or M times (1, C, ny, nx).
            scores: per scale the foreground scores, in the same form with one channel; an agent's cell whose score is 0 holds
                nothing, as one outside of its view.
            agent_SE3_ego: (M, 4, 4) float64, maps ego coordinates into the agent's frame.
            agents_per_scene: (B,) number of agents of each scene; their sum is M.
            trust: (M,) factors on the agents' weights; None gives every agent the factor 1.
            ego_first: whether the first agent of each scene is its ego.
            agent_types: (M,) names of the agents' types, which only some fusions need; empty if not known.

        Returns:
            Per scale (B, C, ny, nx), in the frames of the egos.

        Raises:
            ValueError: the numbers of maps, poses and agents differ, or a scene has no agent.
        """

    @abstractmethod
    def join(self, fused: Sequence[Tensor]) -> Tensor:
        """Join the fused scales to one map (B, `out_channels`, ny, nx) on the grid."""

    def extra_loss(self) -> Tensor | None:
        """Return a weighted loss of the fusion's own in training, for the scenes fused since the last call; None for none."""
        return None

    def fuse_levels(
        self,
        levels: AgentLevels,
        agent_SE3_ego: Tensor,
        agents_per_scene: Sequence[int],
        coverage: Sequence[Coverage] | None = None,
        agent_types: Sequence[str] = (),
    ) -> tuple[Tensor, ...]:
        """Fuse the M agents of B scenes at every scale.

        Args:
            levels: scales of all agents, scene after scene, each scene's ego first.
            agent_SE3_ego: (M, 4, 4) float64, maps ego coordinates into the agent's frame.
            agents_per_scene: (B,) number of agents of each scene; their sum is M.
            coverage: (M,) what the agents' sensors cover, see `scores`.
            agent_types: as for `fuse_scored`.

        Returns:
            Per scale (B, C, ny, nx), in the frames of the egos.
        """
        scores = self.scores(levels.occupancy, coverage)
        return self.fuse_scored(levels.maps, scores, agent_SE3_ego, agents_per_scene, agent_types=agent_types)

    def scores(self, occupancy: Sequence[Tensor], coverage: Sequence[Coverage] | None = None) -> tuple[Tensor, ...]:
        """Compute every scale's foreground scores.

        Args:
            occupancy: per scale (M, 1, ny, nx), logits of the foreground.
            coverage: (M,) what each agent's sensors cover. The ratio of ranges acts in eval mode only, as in HEAL; blocks act in
                training too.

        Returns:
            Per scale (M, 1, ny, nx) in (0, 1 + 1e-4], and 0 where an agent's sensors do not cover the map; the score 1 everywhere,
            whatever the sensors cover, from a fusion that scores no foreground.
        """
        if not self.scores_foreground:
            return tuple(torch.ones_like(logits, dtype=torch.float32) for logits in occupancy)
        found = []
        for logits in occupancy:
            # In single precision also where the networks run in half precision, in which a score of 1 would swallow the floor.
            scores = logits.float().sigmoid() + SCORE_FLOOR
            masks = self._coverage_masks(coverage or (), scores)
            if masks is not None:
                scores = scores * masks
            found.append(scores)
        return tuple(found)

    def require_counts(self, agents: int, agent_SE3_ego: Tensor, agents_per_scene: Sequence[int]) -> None:
        """Raise ValueError if the numbers of maps, poses and agents differ, or a scene has no agent."""
        if sum(agents_per_scene) != agents or len(agent_SE3_ego) != agents or any(n < 1 for n in agents_per_scene):
            raise ValueError(f"{agents} maps, {len(agent_SE3_ego)} poses, but {list(agents_per_scene)} agents in the scenes")

    def require_scores(self) -> None:
        """Raise UserError if the fusion scores no foreground, by which a codec is to choose cells."""
        if not self.scores_foreground:
            raise UserError(
                "the base scores no foreground, so no codec can choose cells by it; take a codec without score:S and budget:BYTES, "
                "or train a base with fusion.foreground=true"
            )

    def require_types(self, agent_types: Iterable[str]) -> None:
        """Raise UserError if the fusion cannot take agents of these types; most fusions take any."""

    def _coverage_masks(self, coverage: Sequence[Coverage], scores: Tensor) -> Tensor | None:
        """Return the masks (M, 1, ny, nx) of agents for the scores of one scale; None if every agent covers all of the map."""
        if self.training:
            coverage = [part if isinstance(part, Tensor) else None for part in coverage]
        if all(part is None for part in coverage):
            return None
        return torch.stack([self._coverage_mask(part, scores.shape[-2:]) for part in coverage])[:, None].to(scores)

    def _coverage_mask(self, coverage: Coverage, shape: Sequence[int]) -> Tensor:
        """Return the mask of one agent in the shape (ny, nx) of a scale."""
        ny, nx = shape
        if coverage is None:
            return torch.ones(ny, nx)
        if isinstance(coverage, Tensor):
            return level_mask(coverage.cpu(), self.grid.ny, self.grid.nx, (ny, nx))
        return coverage_mask(coverage, ny, nx)


def per_agent(maps: AgentMaps) -> Sequence[Tensor]:
    """Return the maps as M tensors (1, C, ny, nx)."""
    return split_batch(maps) if isinstance(maps, Tensor) else maps


def as_batch(maps: AgentMaps) -> Tensor:
    """Return the maps as one tensor (M, C, ny, nx), without a copy where they are one tensor already."""
    if isinstance(maps, Tensor):
        return maps
    return maps[0] if len(maps) == 1 else torch.cat(tuple(maps))
