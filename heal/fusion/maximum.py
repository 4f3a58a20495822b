"""F-Cooper: the greatest value of any agent, channel by channel (Chen et al. 2019, "F-Cooper", section 4.3, maxout fusion)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from heal.config import config
from heal.fusion.map_fusion import MapFusion, MapFusionConfig, SceneMaps


@config
class MaximumConfig(MapFusionConfig):
    """Settings of F-Cooper."""

    kind: Literal["f_cooper"] = "f_cooper"


class MaximumFusion(MapFusion):
    """Takes the maximum over the agents; outside of an agent's view its value is 0. Trust scales an agent's map."""

    def fuse_scene(self, scene: SceneMaps) -> Tensor:
        """Return the maximum of the maps in every cell and channel."""
        return greatest(scene)


def greatest(scene: SceneMaps) -> Tensor:
    """Return the maximum (1, C, ny, nx) of a scene's maps in every cell and channel, each map times its agent's trust."""
    trusted = bool((scene.trust == 1).all())
    maps = scene.maps if trusted else scene.maps * scene.trust[:, None, None, None]
    largest = maps[:1]
    for agent in maps[1:]:
        largest = torch.maximum(largest, agent[None])
    return largest
