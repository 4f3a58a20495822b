"""Pyramid Fusion: at each of several scales, agents' maps are averaged, weighted by foreground scores (HEAL, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from heal.config import config, later
from heal.encoders.covered import level_mask
from heal.errors import UserError
from heal.fusion.warp import Window, affine_rows, coverage_mask
from heal.grid import BevGrid
from heal.layers.memory_layout import split_batch, zeros_in_format_of
from heal.layers.residual import ResidualStages, Upsample
from heal.types import SCORE_FLOOR, BoolMask

# What an agent's sensors cover: the grid's range over the encoder's own, in x and y; or the blocks (rows, columns) of
# `heal.encoders.covered` as a bool tensor; or None for the whole grid.
Coverage: TypeAlias = "tuple[float, float] | Tensor | None"

# The maps of M agents: one tensor (M, C, ny, nx), or M tensors (1, C, ny, nx).
AgentMaps: TypeAlias = "Tensor | Sequence[Tensor]"

# The identity in the form of `affine_rows`, and the tolerance, as a share of the map, within which a pose counts as the identity.
_IDENTITY_AFFINE, _TOLERANCE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), 1e-9

# Logit of a foreground of 1 percent, the bias of new heads: foreground is rare, and so the focal losses start hundreds of steps
# ahead.
RARE_LOGIT = -4.6

# Factor on the weight of another agent's cell below the gate. It is not 0, so that where the ego has no map nothing changes.
GATED = 0.01


def coverage_of(ratio: tuple[float, float] | None, blocks: BoolMask | None) -> Coverage:
    """Return what an agent's sensors cover: its blocks (rows, columns) if it tells them, else the ratio of its encoder's range."""
    return ratio if blocks is None else torch.from_numpy(blocks)


@config
class PyramidConfig:
    """Settings of the pyramid's scales, the finest first.

    Attributes:
        blocks: number of residual blocks of each scale.
        strides: edge of a cell of each scale divided by that of the scale before it.
        channels: channels of each scale's maps.
        groups: groups of the blocks' convolutions; 0 for plain residual blocks.
        base_width: inner channels of a group for maps of 64 channels.
        upsample_strides: factor by which each fused scale is enlarged.
        upsample_channels: channels of each enlarged scale; the enlarged scales are joined.
        sharpness: factor on the scores in the softmax that weighs agents, the inverse of its temperature. At HEAL's 1, an agent
            that sees nothing has 27 % of the weight beside an agent with a score of 1; at 6 it has 0.2 %.
        gate: the score below which a cell of another agent than the ego has little weight; 0 for no gate.
        single_agent: make the base a single-agent detector (`heal.fusion.single_agent`), which cannot fuse several agents.
        spare_stride: of a single-agent detector: stride of the first stage, whose weights are stored for HEAL but not used.
    """

    blocks: tuple[int, ...] = (3, 5, 8)
    strides: tuple[int, ...] = (1, 2, 2)
    channels: tuple[int, ...] = (64, 128, 256)
    groups: int = 32
    base_width: int = 4
    upsample_strides: tuple[float, ...] = (1, 2, 4)
    upsample_channels: tuple[int, ...] = (128, 128, 128)
    sharpness: float = later(1.0)
    gate: float = later(0.0)
    single_agent: bool = later(False)
    spare_stride: int = later(1)

    def __post_init__(self) -> None:
        """Raise UserError for a single-agent detector whose first scale is not the agent's own map."""
        if self.single_agent and self.strides[:1] != (1,):
            raise UserError(
                "pyramid.strides: the first scale of a single-agent detector is the agent's own map, so the first stride has to be "
                f"1, got {self.strides}; the stride of the unused first stage is spare_stride"
            )

    @property
    def stage_strides(self) -> tuple[int, ...]:
        """Stride of every stage's layers; differs from `strides` only in the unused first stage of a single-agent detector."""
        return (self.spare_stride, *self.strides[1:]) if self.single_agent else self.strides


@dataclass(frozen=True)
class PyramidLevels:
    """The maps of M agents at every scale, the finest first, each in its agent's frame.

    Attributes:
        maps: per scale (M, C, ny, nx).
        occupancy: per scale (M, 1, ny, nx), logits of the foreground.
    """

    maps: tuple[Tensor, ...]
    occupancy: tuple[Tensor, ...]


class PyramidFusion(nn.Module):
    """The trunk, which turns every agent's map into maps at several scales, and the fusion of the agents at each scale."""

    def __init__(self, settings: PyramidConfig, in_channels: int, grid: BevGrid) -> None:
        """Make the layers for maps of `in_channels` channels on `grid`."""
        super().__init__()
        self.config, self.grid = settings, grid
        self.resnet = ResidualStages(
            in_channels, settings.blocks, settings.stage_strides, settings.channels, settings.groups, settings.base_width
        )
        self._add_foreground_heads()
        self.deblocks = Upsample(settings.channels, settings.upsample_strides, settings.upsample_channels)

    def _add_foreground_heads(self) -> None:
        """Add the layer of each scale that scores its foreground."""
        for i, width in enumerate(self.config.channels):
            head = nn.Conv2d(width, 1, 1)
            nn.init.constant_(head.bias, RARE_LOGIT)  # type: ignore[arg-type]
            self.add_module(f"single_head_{i}", head)

    def trunk(self, features: Tensor) -> PyramidLevels:
        """Compute the scales of maps (M, C, ny, nx), each agent on its own; this step can run on either side of a link."""
        maps = self.resnet(features)
        return PyramidLevels(maps, tuple(self.get_submodule(f"single_head_{i}")(level) for i, level in enumerate(maps)))

    def level_shapes(self) -> list[tuple[int, int, int]]:
        """Return the shape (C, ny, nx) of every scale's maps, the finest first."""
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
        coverage: Sequence[Coverage] | None = None,
    ) -> tuple[Tensor, ...]:
        """Fuse the M agents of B scenes at every scale.

        Args:
            levels: scales of all agents, scene after scene, each scene's ego first.
            agent_SE3_ego: (M, 4, 4) float64, maps ego coordinates into the agent's frame.
            agents_per_scene: (B,) number of agents of each scene; their sum is M.
            coverage: (M,) what the agents' sensors cover, see `scores`.

        Returns:
            Per scale (B, C, ny, nx), in the frames of the egos.
        """
        return self.fuse_scored(levels.maps, self.scores(levels.occupancy, coverage), agent_SE3_ego, agents_per_scene)

    def scores(self, occupancy: Sequence[Tensor], coverage: Sequence[Coverage] | None = None) -> tuple[Tensor, ...]:
        """Compute every scale's foreground scores.

        Args:
            occupancy: per scale (M, 1, ny, nx), logits of the foreground.
            coverage: (M,) what each agent's sensors cover. The ratio of ranges acts in eval mode only, as in HEAL; blocks act in
                training too.

        Returns:
            Per scale (M, 1, ny, nx) in (0, 1 + 1e-4], and 0 where an agent's sensors do not cover the map.
        """
        found = []
        for logits in occupancy:
            # In single precision also where the networks run in half precision, in which a score of 1 would swallow the floor.
            scores = logits.float().sigmoid() + SCORE_FLOOR
            masks = self._coverage_masks(coverage or (), scores)
            if masks is not None:
                scores = scores * masks
            found.append(scores)
        return tuple(found)

    def fuse_scored(
        self,
        maps: Sequence[AgentMaps],
        scores: Sequence[AgentMaps],
        agent_SE3_ego: Tensor,
        agents_per_scene: Sequence[int],
        trust: Tensor | None = None,
        ego_first: bool = True,
    ) -> tuple[Tensor, ...]:
        """Fuse the M agents of B scenes at every scale, from maps and foreground scores.

        Args:
            maps: per scale the maps of all agents, scene after scene, (M, C, ny, nx) or M times (1, C, ny, nx).
            scores: per scale the foreground scores, in the same form with one channel; an agent has no weight where its score is 0.
            agent_SE3_ego: (M, 4, 4) float64, maps ego coordinates into the agent's frame.
            agents_per_scene: (B,) number of agents of each scene; their sum is M.
            trust: (M,) factors on the agents' weights; None gives every agent the factor 1.
            ego_first: whether the first agent of each scene is its ego, which no gate holds back.

        Returns:
            Per scale (B, C, ny, nx), in the frames of the egos.

        Raises:
            ValueError: the numbers of maps, poses and agents differ, or a scene has no agent.
        """
        agents = len(maps[0])
        if sum(agents_per_scene) != agents or len(agent_SE3_ego) != agents or any(n < 1 for n in agents_per_scene):
            raise ValueError(f"{agents} maps, {len(agent_SE3_ego)} poses, but {list(agents_per_scene)} agents in the scenes")
        alone = agents == len(agents_per_scene) and torch.allclose(agent_SE3_ego, torch.eye(4).to(agent_SE3_ego))
        # The poses are compared too, because a scene's only agent need not be the ego: where the ego's own map is missing, the
        # other agent's map is moved into the ego's frame.
        affines = None if alone else affine_rows(agent_SE3_ego, self.grid)
        if affines is None:
            return tuple(_where_scored(_as_batch(level), _as_batch(score)) for level, score in zip(maps, scores, strict=True))
        levels = [(_per_agent(level), _per_agent(score)) for level, score in zip(maps, scores, strict=True)]
        return tuple(self._fuse(level, score, affines, agents_per_scene, trust, ego_first) for level, score in levels)

    def _weight(self, agent: _MovedMap, factor: float, is_ego: bool, gated: float) -> Tensor:
        """Return the weights of an agent's cells in the softmax, before they are divided by their sum; 0 where the score is 0.

        Args:
            agent: with its scores.
            factor: on the agent's weight.
            is_ego: whether no gate holds the agent back.
            gated: largest factor on cells below the gate.
        """
        # Scores are at most about 1, so the softmax needs no shift of its exponents.
        weight = torch.where(agent.score == 0, torch.zeros_like(agent.score), (agent.score * self.config.sharpness).exp())
        if is_ego or not self.config.gate:
            return weight * factor
        return torch.where(agent.score < self.config.gate, weight * min(GATED * factor, gated), weight * factor)

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

    def join(self, fused: Sequence[Tensor]) -> Tensor:
        """Enlarge the fused scales to the finest scale's size and join them: (B, sum of upsample channels, ny, nx)."""
        joined: Tensor = self.deblocks(fused)
        return joined

    def _fuse(
        self,
        maps: Sequence[Tensor],
        scores: Sequence[Tensor],
        affines: Sequence[Sequence[float]],
        agents_per_scene: Sequence[int],
        trust: Tensor | None,
        ego_first: bool,
    ) -> Tensor:
        """Return the mean (B, C, ny, nx) of each scene's maps, weighted by a softmax of the scores where these are not zero."""
        # One agent after another: no copy of all maps is made, and the sum has the same order on every device.
        moved = [_move_to_ego(*agent) for agent in zip(maps, scores, affines, strict=True)]
        factors = [1.0] * len(moved) if trust is None else trust.tolist()
        fused, first = [], 0
        for count in agents_per_scene:
            scene = slice(first, first + count)
            egos = [ego_first and i == 0 for i in range(count)]
            gated = GATED * min(1.0, factors[first]) if ego_first else GATED
            weights = [self._weight(*agent, gated) for agent in zip(moved[scene], factors[scene], egos, strict=True)]
            fused.append(_weighted_mean(maps[first].shape, moved[scene], weights))
            first += count
        return _as_batch(fused)


@dataclass(frozen=True)
class _MovedMap:
    """An agent's map and scores in the ego's frame, for the part of the ego's map that they reach.

    Attributes:
        level: (1, C, rows, columns).
        score: (1, 1, rows, columns).
        part: index of the rows and columns in the ego's map (1, C, ny, nx).
    """

    level: Tensor
    score: Tensor
    part: tuple[Any, ...]


def _where_scored(level: Tensor, score: Tensor) -> Tensor:
    """Return the map (M, C, ny, nx) of single agents, with zeros where an agent's score (M, 1, ny, nx) is zero."""
    # In training, scores are mostly positive everywhere: then no copy is made, which the gradient would have to pass.
    return level if level.requires_grad and bool((score != 0).all()) else level * (score != 0)


def _move_to_ego(level: Tensor, score: Tensor, affine: Sequence[float]) -> _MovedMap:
    """Move an agent's map (1, C, ny, nx) and score (1, 1, ny, nx) into the ego's frame."""
    if level.requires_grad and all(abs(a - b) < _TOLERANCE for a, b in zip(affine, _IDENTITY_AFFINE, strict=True)):
        # The ego's own map: sampling would return the same map, at some cost in time and memory.
        return _MovedMap(level, score, (...,))
    window = Window.of(affine, level.shape[-2], level.shape[-1], level.device)
    return _MovedMap(window.sample(level), window.sample(score), (..., window.rows, window.columns))


def _per_agent(maps: AgentMaps) -> Sequence[Tensor]:
    """Return the maps as M tensors (1, C, ny, nx)."""
    return split_batch(maps) if isinstance(maps, Tensor) else maps


def _as_batch(maps: AgentMaps) -> Tensor:
    """Return the maps as one tensor (M, C, ny, nx), without a copy where they are one tensor already."""
    if isinstance(maps, Tensor):
        return maps
    return maps[0] if len(maps) == 1 else torch.cat(tuple(maps))


def _weighted_mean(shape: torch.Size, agents: Sequence[_MovedMap], weights: Sequence[Tensor]) -> Tensor:
    """Return the weighted mean of a scene's maps.

    Args:
        shape: (1, C, ny, nx) of the ego's map.
        agents: the maps of the scene's agents.
        weights: of their cells, in the shape of their scores.

    Returns:
        A map of `shape`; zero where all weights are zero.
    """
    total, mean = weights[0].new_zeros(1, 1, *shape[-2:]), zeros_in_format_of(agents[0].level, shape)
    for agent, weight in zip(agents, weights, strict=True):
        total[agent.part] += weight
    total = torch.where(total == 0, torch.ones_like(total), total)
    for agent, weight in zip(agents, weights, strict=True):
        mean[agent.part].addcmul_(agent.level, (weight / total[agent.part]).to(mean.dtype))
    return mean
