"""CoAlign: residual stages behind each agent's map, fused at every scale (Lu et al. 2023, section IV, multi-scale fusion).

The paper's other half, the correction of poses by detected boxes, is a step of the run and works with every fusion.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

from torch import Tensor

from heal.config import config
from heal.errors import UserError
from heal.fusion.attention import attend
from heal.fusion.map_fusion import SceneFusion, SceneMaps
from heal.fusion.maximum import greatest
from heal.fusion.pyramid import StagedFusion
from heal.grid import BevGrid


@config
class CoAlignConfig:
    """Settings of CoAlign's scales, the finest first, which is the agent's own map.

    Attributes:
        blocks: number of residual blocks of each scale; those of the first are stored for HEAL but not used.
        strides: edge of a cell of each scale divided by that of the scale before it; the first is 1.
        channels: channels of each scale's maps.
        upsample_strides: factor by which each fused scale is enlarged.
        upsample_channels: channels of each enlarged scale; the enlarged scales are joined.
        method: how the agents are fused in every cell of a scale.
        foreground: score the foreground of each scale, as `MapFusionConfig.foreground` says.
    """

    groups: ClassVar[int] = 0
    base_width: ClassVar[int] = 4

    kind: Literal["coalign"] = "coalign"
    blocks: tuple[int, ...] = (3, 5, 8)
    strides: tuple[int, ...] = (1, 2, 2)
    channels: tuple[int, ...] = (64, 128, 256)
    upsample_strides: tuple[float, ...] = (1, 2, 4)
    upsample_channels: tuple[int, ...] = (128, 128, 128)
    method: Literal["attention", "maximum"] = "attention"
    foreground: bool = True

    def __post_init__(self) -> None:
        """Raise UserError if the first scale is not the agent's own map, or the settings are of different numbers of scales."""
        scales = {name: len(getattr(self, name)) for name in ("blocks", "strides", "channels", "upsample_channels")}
        if len(set(scales.values())) != 1:
            raise UserError(f"fusion: expected as many entries for each of the scales' settings, got {scales}")
        if self.strides[:1] != (1,):
            raise UserError(f"fusion.strides: the first scale is the agent's own map; expected 1 at first, got {self.strides}")

    @property
    def stage_strides(self) -> tuple[int, ...]:
        """Stride of every stage's layers."""
        return self.strides


_METHODS: dict[str, Callable[[SceneMaps], Tensor]] = {"attention": attend, "maximum": greatest}


class CoAlign(SceneFusion, StagedFusion):
    """Fuses every scale by attention or maximum, and joins the enlarged scales."""

    first_stage = 1

    def __init__(self, settings: CoAlignConfig, in_channels: int, grid: BevGrid) -> None:
        """Make the layers for maps of `in_channels` channels on `grid`; UserError unless the first scale has as many channels."""
        self.scores_foreground = settings.foreground
        super().__init__(settings, in_channels, grid)
        self.settings = settings

    def fuse_scene(self, scene: SceneMaps) -> Tensor:
        """Fuse the maps of one scale."""
        return _METHODS[self.settings.method](scene)
