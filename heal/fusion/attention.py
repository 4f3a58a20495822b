"""AttFuse: self-attention over the agents in every cell (Xu et al. 2022, "OPV2V", section IV-C)."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from heal.config import config
from heal.fusion.map_fusion import MapFusion, MapFusionConfig, SceneMaps, weighted_sum


@config
class AttentionConfig(MapFusionConfig):
    """Settings of AttFuse."""

    kind: Literal["attfuse"] = "attfuse"


class AttentionFusion(MapFusion):
    """Averages the maps, weighted by how alike an agent's and the ego's vectors are in a cell.

    Queries, keys and values are the maps themselves, so there are no weights to learn. Trust is a factor on an agent's weight
    before the weights are divided by their sum.
    """

    def fuse_scene(self, scene: SceneMaps) -> Tensor:
        """Return the row of the ego in the attention of all agents to all agents."""
        return attend(scene)


def attend(scene: SceneMaps) -> Tensor:
    """Return the mean (1, C, ny, nx) of a scene's maps, weighted by the softmax of x_ego * x_agent / sqrt(C) in each cell."""
    maps = scene.maps
    alike = (maps[:1] * maps).sum(dim=1, keepdim=True) / math.sqrt(maps.shape[1])
    return weighted_sum(maps, scene.shares(alike))
