"""Pyramid Fusion: at each of several scales, agents' maps are averaged, weighted by foreground scores (HEAL, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from heal.config import config, later
from heal.errors import UserError
from heal.fusion.interface import AgentLevels, AgentMaps, Fusion, as_batch, foreground_head, per_agent
from heal.fusion.warp import Window, affine_rows, is_identity
from heal.grid import BevGrid
from heal.layers.memory_layout import zeros_in_format_of
from heal.layers.residual import ResidualStages, Upsample

# Factor on the weight of another agent's cell below the gate. It is not 0, so that where the ego has no map nothing changes.
GATED = 0.01


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

    kind: ClassVar[str] = "pyramid"

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
    def foreground(self) -> bool:
        """Whether the fusion scores foreground: a single-agent detector does not."""
        return not self.single_agent

    @property
    def stage_strides(self) -> tuple[int, ...]:
        """Stride of every stage's layers; differs from `strides` only in the unused first stage of a single-agent detector."""
        return (self.spare_stride, *self.strides[1:]) if self.single_agent else self.strides


class StageConfig(Protocol):
    """Settings of a fusion's scales, with the meaning that those of `PyramidConfig` have."""

    @property
    def blocks(self) -> tuple[int, ...]: ...  # noqa: D102

    @property
    def strides(self) -> tuple[int, ...]: ...  # noqa: D102

    @property
    def stage_strides(self) -> tuple[int, ...]: ...  # noqa: D102

    @property
    def channels(self) -> tuple[int, ...]: ...  # noqa: D102

    @property
    def groups(self) -> int: ...  # noqa: D102

    @property
    def base_width(self) -> int: ...  # noqa: D102

    @property
    def upsample_strides(self) -> tuple[float, ...]: ...  # noqa: D102

    @property
    def upsample_channels(self) -> tuple[int, ...]: ...  # noqa: D102


class StagedFusion(Fusion):
    """A fusion of several scales: a trunk of residual stages, which runs on each agent's map, and layers that join fused scales.

    Attributes:
        first_stage: number of the first stage that runs. From 1 on, the first scale is the agent's own map; the stages before are
            there because HEAL's checkpoints contain their weights.
    """

    first_stage = 0

    def __init__(self, settings: StageConfig, in_channels: int, grid: BevGrid) -> None:
        """Make the layers for maps of `in_channels` channels on `grid`.

        Raises:
            UserError: the first scale is the agent's own map, but has other channels.
        """
        super().__init__(grid)
        if self.first_stage and in_channels != settings.channels[0]:
            raise UserError(f"channels: the first scale is the agent's own map of {in_channels} channels, got {settings.channels}")
        self._stages = settings
        self.resnet = ResidualStages(
            in_channels, settings.blocks, settings.stage_strides, settings.channels, settings.groups, settings.base_width
        )
        if self.scores_foreground:
            for i, width in enumerate(settings.channels):
                self.add_module(f"single_head_{i}", foreground_head(width))
        self.deblocks = Upsample(settings.channels, settings.upsample_strides, settings.upsample_channels)

    @property
    def out_channels(self) -> int:
        """Channels of all enlarged scales together."""
        return sum(self._stages.upsample_channels)

    def trunk(self, features: Tensor) -> AgentLevels:
        """Compute the scales of maps (M, C, ny, nx), each agent on its own; this step can run on either side of a link."""
        maps = self.resnet(features, self.first_stage)
        if self.first_stage:
            maps = (features, *maps)
        return AgentLevels(maps, self.occupancy(maps))

    def occupancy(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the logits (M, 1, ny, nx) of the foreground of every scale (M, C, ny, nx); zero if no foreground is scored."""
        return tuple(self._logits(i, level) for i, level in enumerate(maps))

    def _logits(self, i: int, level: Tensor) -> Tensor:
        if not self.scores_foreground:
            return level.new_zeros(len(level), 1, *level.shape[-2:])
        logits: Tensor = self.get_submodule(f"single_head_{i}")(level)
        return logits

    def level_shapes(self) -> list[tuple[int, int, int]]:
        """Return the shape (C, ny, nx) of every scale's maps, the finest first."""
        shapes, ny, nx = [], self.grid.ny, self.grid.nx
        for channels, stride in zip(self._stages.channels, self._stages.strides, strict=True):
            ny, nx = -(-ny // stride), -(-nx // stride)
            shapes.append((channels, ny, nx))
        return shapes

    def join(self, fused: Sequence[Tensor]) -> Tensor:
        """Enlarge the fused scales to the finest scale's size and join them: (B, sum of upsample channels, ny, nx)."""
        joined: Tensor = self.deblocks(fused)
        return joined


class PyramidFusion(StagedFusion):
    """The mean of the agents at each scale, weighted by a softmax of their foreground scores (HEAL, section 3.2)."""

    def __init__(self, settings: PyramidConfig, in_channels: int, grid: BevGrid) -> None:
        """Make the layers for maps of `in_channels` channels on `grid`."""
        super().__init__(settings, in_channels, grid)
        self.config = settings

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
        """Average the agents' maps at every scale; arguments as for every fusion, and no gate holds the ego back."""
        agents = len(maps[0])
        self.require_counts(agents, agent_SE3_ego, agents_per_scene)
        alone = agents == len(agents_per_scene) and torch.allclose(agent_SE3_ego, torch.eye(4).to(agent_SE3_ego))
        # The poses are compared too, because a scene's only agent need not be the ego: where the ego's own map is missing, the
        # other agent's map is moved into the ego's frame.
        affines = None if alone else affine_rows(agent_SE3_ego, self.grid)
        if affines is None:
            return tuple(_where_scored(as_batch(level), as_batch(score)) for level, score in zip(maps, scores, strict=True))
        levels = [(per_agent(level), per_agent(score)) for level, score in zip(maps, scores, strict=True)]
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
        return as_batch(fused)


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
    if level.requires_grad and is_identity(affine):
        # The ego's own map: sampling would return the same map, at some cost in time and memory.
        return _MovedMap(level, score, (...,))
    window = Window.of(affine, level.shape[-2], level.shape[-1], level.device)
    return _MovedMap(window.sample(level), window.sample(score), (..., window.rows, window.columns))


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
