"""F-Cooper: the greatest value of any agent, channel by channel (Chen et al. 2019, "F-Cooper", section 4.3, maxout fusion)."""

from __future__ import annotations

from typing import Literal

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
        return (scene.maps * scene.trust[:, None, None, None]).amax(dim=0, keepdim=True)
