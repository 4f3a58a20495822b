"""Pyramid Fusion in its plain form: whole maps are warped, stacked, and averaged with a softmax over the agents."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from heal.base_model import BaseModel
from heal.detection.head import HeadOutput
from heal.grid import BevGrid


def fuse(base: BaseModel, maps: Sequence[Tensor], scores: Sequence[Tensor], agent_SE3_ego: Tensor) -> HeadOutput:
    """Compute the same as `base.heads(base.fuse_scored(maps, scores, agent_SE3_ego, [M]))` for one scene with M agents.

    Args:
        base: base network, whose weights are used.
        maps: per level (M, C, ny, nx), the feature map of each agent in the agent's frame.
        scores: per level (M, 1, ny, nx), foreground scores. A cell with score 0 has no influence.
        agent_SE3_ego: (M, 4, 4) float64, maps coordinates of the ego's frame into each agent's frame.

    Returns:
        The head's output in the ego's frame.
    """
    fused = []
    for level, score in zip(maps, scores, strict=True):
        warped = warp(level, agent_SE3_ego, base.config.grid)
        warped_score = warp(score, agent_SE3_ego, base.config.grid)
        weights = warped_score.masked_fill(warped_score == 0, -torch.inf).softmax(dim=0).nan_to_num(nan=0.0)
        fused.append((weights * warped).sum(dim=0, keepdim=True))
    deblocks = base.pyramid.deblocks
    joined = torch.cat([deblocks[i](level) for i, level in enumerate(fused)], dim=1)
    for further in list(deblocks)[len(fused) :]:
        joined = further(joined)
    shrunk = base.shrink_conv(joined)
    return HeadOutput(*(layer(shrunk) for layer in base.head_layers.values()))


def warp(maps: Tensor, agent_SE3_ego: Tensor, grid: BevGrid) -> Tensor:
    """Warp maps from the agents' frames into the ego's frame, with zeros outside.

    Args:
        maps: (M, C, ny, nx) over the range of `grid`, each in the agent's frame.
        agent_SE3_ego: (M, 4, 4) float64, maps coordinates of the ego's frame into each agent's frame.
        grid: grid of the shared feature maps. `maps` may have coarser cells.

    Returns:
        (M, C, ny, nx) in the ego's frame.
    """
    length_x_m, length_y_m = grid.length_x_m, grid.length_y_m
    theta = torch.zeros(len(maps), 2, 3, dtype=torch.float64)
    theta[:, 0, 0] = agent_SE3_ego[:, 0, 0]
    theta[:, 0, 1] = agent_SE3_ego[:, 0, 1] * length_y_m / length_x_m
    theta[:, 0, 2] = agent_SE3_ego[:, 0, 3] * 2 / length_x_m
    theta[:, 1, 0] = agent_SE3_ego[:, 1, 0] * length_x_m / length_y_m
    theta[:, 1, 1] = agent_SE3_ego[:, 1, 1]
    theta[:, 1, 2] = agent_SE3_ego[:, 1, 3] * 2 / length_y_m
    places = F.affine_grid(theta.to(maps.device), list(maps.shape), align_corners=False).to(maps.dtype)
    return F.grid_sample(maps, places, mode="bilinear", padding_mode="zeros", align_corners=False)
