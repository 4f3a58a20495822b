"""The collaboration base: Pyramid Fusion and heads, shared by all agent types. It knows nothing of sensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heal.config import config
from heal.detection.anchors import AnchorConfig, make_anchors
from heal.detection.decode import DecodeConfig
from heal.detection.head import HeadOutput, Shrink
from heal.detection.targets import TargetConfig
from heal.fusion.pyramid import RARE_LOGIT, Agents, PyramidConfig, PyramidFusion, PyramidLevels
from heal.grid import BevGrid


@config
class BaseConfig:
    """A base; the defaults are the paper's for OPV2V-H.

    Attributes:
        grid: that all feature maps lie on.
        in_channels: of the feature maps that agents send.
        pyramid: scales of the fusion.
        shrink_channels: after each pair of convolutions between fusion and heads.
        shrink_sizes: kernel of each pair's first convolution.
        shrink_strides: its stride.
        direction_bins: halves of the circle that a heading is told from.
        anchors: boxes that the head starts from.
        targets: which anchors are to be positive.
        decode: what counts as a detection.
    """

    grid: BevGrid = BevGrid((-102.4, -51.2, -3.0, 102.4, 51.2, 1.0), 0.8)
    in_channels: int = 64
    pyramid: PyramidConfig = PyramidConfig()
    shrink_channels: tuple[int, ...] = (256,)
    shrink_sizes: tuple[int, ...] = (3,)
    shrink_strides: tuple[int, ...] = (1,)
    direction_bins: int = 2
    anchors: AnchorConfig = AnchorConfig()
    targets: TargetConfig = TargetConfig()
    decode: DecodeConfig = DecodeConfig()


@dataclass(frozen=True)
class BaseOutput:
    """The head's output for B scenes, and the foreground logits that each of the M agents' scales gave."""

    head: HeadOutput
    occupancy: tuple[Tensor, ...]


class BaseModel(nn.Module):
    """Trunk, fusion, shrinking, heads."""

    def __init__(self, settings: BaseConfig) -> None:
        """A fresh base."""
        super().__init__()
        self.config = settings
        self.pyramid_backbone = PyramidFusion(settings.pyramid, settings.in_channels, settings.grid)
        joined = sum(settings.pyramid.upsample_channels)
        self.shrink_conv = Shrink(joined, settings.shrink_channels, settings.shrink_sizes, settings.shrink_strides)
        width, anchors = settings.shrink_channels[-1], len(settings.anchors.yaws_deg)
        self.cls_head = nn.Conv2d(width, anchors, 1)
        nn.init.constant_(self.cls_head.bias, RARE_LOGIT)  # type: ignore[arg-type]
        self.reg_head = nn.Conv2d(width, 7 * anchors, 1)
        self.dir_head = nn.Conv2d(width, settings.direction_bins * anchors, 1)

    def trunk(self, features: Tensor) -> PyramidLevels:
        """The pyramid of every agent's feature map (M, C, ny, nx), agent by agent."""
        return self.pyramid_backbone.trunk(features)

    def fuse(
        self,
        levels: PyramidLevels,
        agent_SE3_ego: Tensor,
        agents_per_scene: Sequence[int],
        coverage: Sequence[tuple[float, float] | None] | None = None,
    ) -> Tensor:
        """One joined map per scene (B, C, ny, nx) in the ego's frame; arguments as in `PyramidFusion.fuse_levels`."""
        fused = self.pyramid_backbone.fuse_levels(levels, agent_SE3_ego, agents_per_scene, coverage)
        return self.pyramid_backbone.join(fused)

    def fuse_scored(
        self,
        maps: Sequence[Agents],
        scores: Sequence[Agents],
        agent_SE3_ego: Tensor,
        agents_per_scene: Sequence[int],
        trust: Tensor | None = None,
    ) -> Tensor:
        """As `fuse`, from maps and foreground scores; arguments as in `PyramidFusion.fuse_scored`."""
        return self.pyramid_backbone.join(self.pyramid_backbone.fuse_scored(maps, scores, agent_SE3_ego, agents_per_scene, trust))

    def heads(self, joined: Tensor) -> HeadOutput:
        """The head's output for joined maps (B, C, ny, nx)."""
        shrunk = self.shrink_conv(joined)
        # As one convolution: each reads all of the widest map.
        heads = (self.cls_head, self.reg_head, self.dir_head)
        weight, bias = (torch.cat([getattr(head, name) for head in heads]) for name in ("weight", "bias"))
        return HeadOutput(*torch.split(F.conv2d(shrunk, weight, bias), [head.out_channels for head in heads], dim=1))

    def forward(
        self,
        features: Tensor,
        agent_SE3_ego: Tensor,
        agents_per_scene: Sequence[int],
        coverage: Sequence[tuple[float, float] | None] | None = None,
    ) -> BaseOutput:
        """Feature maps of all agents (M, C, ny, nx) to the output of all scenes."""
        levels = self.trunk(features)
        return BaseOutput(self.heads(self.fuse(levels, agent_SE3_ego, agents_per_scene, coverage)), levels.occupancy)

    def anchors(self) -> Tensor:
        """(ny, nx, A, 7) float64, in the ego's frame."""
        return make_anchors(self.config.grid, self.config.anchors)
