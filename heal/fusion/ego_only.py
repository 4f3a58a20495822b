"""No fusion: the ego's own map, whatever the others send. The lower bound of every comparison."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from heal.config import config
from heal.fusion.map_fusion import MapFusion, MapFusionConfig, SceneMaps


@config
class EgoOnlyConfig(MapFusionConfig):
    """Settings of no fusion."""

    kind: Literal["ego_only"] = "ego_only"


class EgoOnly(MapFusion):
    """Returns the ego's map; where it is missing, the first agent's."""

    def fuse_scene(self, scene: SceneMaps) -> Tensor:
        """Return the first map."""
        return scene.maps[:1]
