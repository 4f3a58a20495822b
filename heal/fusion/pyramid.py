"""Pyramid Fusion: at each of several scales, agents are weighed by the foreground that they see (HEAL, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from heal.config import config
from heal.fusion.warp import coverage_mask, warp_to_ego
from heal.grid import BevGrid
from heal.residual import ResidualStages, Upsample

# Foreground is rare: a fresh network says so everywhere, which spares the focal losses their first hundreds of steps.
RARE_LOGIT = -4.6
# Keeps the score of a visible cell from zero, which stands for one that the agent does not see.
_SCORE_FLOOR = 1e-4


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
        self.grid = grid
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
        agents = len(levels.maps[0])
        if sum(agents_per_scene) != agents or len(agent_SE3_ego) != agents or any(n < 1 for n in agents_per_scene):
            raise ValueError(f"{agents} maps, {len(agent_SE3_ego)} poses, but {list(agents_per_scene)} agents in the scenes")
        fused = []
        for maps, logits in zip(levels.maps, levels.occupancy, strict=True):
            # In single precision also where the networks run in half: the floor would be lost beside a score of 1.
            scores = logits.float().sigmoid() + _SCORE_FLOOR
            if coverage is not None and any(coverage) and not self.training:
                scores = scores * _coverage(coverage, scores)
            fused.append(self._fuse(maps, scores, agent_SE3_ego, agents_per_scene))
        return tuple(fused)

    def join(self, fused: Sequence[Tensor]) -> Tensor:
        """Bring fused scales to the finest one's size and join them: (B, sum of upsample channels, ny, nx)."""
        joined: Tensor = self.deblocks(fused)
        return joined

    def _fuse(self, maps: Tensor, scores: Tensor, agent_SE3_ego: Tensor, agents_per_scene: Sequence[int]) -> Tensor:
        """The mean of each scene's maps, weighted by a softmax of their scores where they are not zero."""
        # A lone agent need not be the ego: where the ego's own map is missing, another's is still to be moved into its frame.
        if len(maps) == len(agents_per_scene) and torch.allclose(agent_SE3_ego, torch.eye(4).to(agent_SE3_ego)):
            return maps * (scores != 0)
        # Apart, not joined: a joint tensor would cost a copy of all maps into another memory layout.
        maps, scores = warp_to_ego(maps, agent_SE3_ego, self.grid), warp_to_ego(scores, agent_SE3_ego, self.grid)
        # Scores are at most 1, so their exponentials need no shift.
        weights = torch.where(scores == 0, torch.zeros_like(scores), scores.exp())
        counts = list(agents_per_scene)
        scenes = zip(torch.split(maps, counts), torch.split(weights, counts), strict=True)
        return torch.stack([_weighted_mean(of_scene, weight) for of_scene, weight in scenes])


def _weighted_mean(maps: Tensor, weights: Tensor) -> Tensor:
    """(C, ny, nx) from (N, C, ny, nx) and (N, 1, ny, nx); zero where all weights are."""
    total = weights.sum(0)
    shares = (weights / torch.where(total == 0, torch.ones_like(total), total)).to(maps.dtype)
    # One agent after the other: no copy of all maps, and the same sum on every device.
    mean = maps[0] * shares[0]
    for i in range(1, len(maps)):
        mean = torch.addcmul(mean, maps[i], shares[i])
    return mean


def _coverage(coverage: Sequence[tuple[float, float] | None], scores: Tensor) -> Tensor:
    ny, nx = scores.shape[-2:]
    return torch.stack([coverage_mask(ratio or (1e-6, 1e-6), ny, nx) for ratio in coverage])[:, None].to(scores)
