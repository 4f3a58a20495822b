"""One agent type: from its own sensors to a feature map in the shared space. It knows nothing of other agents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from torch import Tensor, nn

from heal.aligner import AlignerConfig, IdentityAlignerConfig, make_aligner
from heal.backbone import Backbone, BackboneConfig
from heal.config import config
from heal.encoders.point_pillars import PointPillars, PointPillarsConfig, pillar_grid
from heal.grid import BevGrid
from heal.points import points_on_own_vehicle
from heal.types import AgentFrame, Float32
from heal.voxelize import Voxels, voxelize

EncoderConfig: TypeAlias = PointPillarsConfig
EncoderInput: TypeAlias = Voxels

ENCODERS = {"point_pillars": PointPillars}


@config
class AgentConfig:
    """An agent type: encoder, backbone, aligner. The defaults are the paper's m1."""

    encoder: EncoderConfig = PointPillarsConfig()
    backbone: BackboneConfig = BackboneConfig()
    aligner: AlignerConfig = IdentityAlignerConfig()


class AgentModel(nn.Module):
    """Encoder, backbone and aligner of one type."""

    def __init__(self, settings: AgentConfig, grid: BevGrid) -> None:
        """For an alliance's grid.

        Raises:
            ValueError: if the type's feature map would not lie on the grid.
        """
        super().__init__()
        self.config, self.grid = settings, grid
        self.encoder = ENCODERS[settings.encoder.kind](settings.encoder, grid)
        self.backbone = Backbone(settings.backbone, settings.encoder.out_channels)
        self.aligner = make_aligner(settings.aligner, settings.backbone.out_channels)

    def prepare(self, frames: Sequence[AgentFrame], rng: np.random.Generator | None = None) -> EncoderInput:
        """What the encoder takes, for agents of this type.

        Args:
            frames: one for every agent.
            rng: shuffles the points, in training: which ones a full pillar keeps is then random.

        Raises:
            ValueError: an agent has no LiDAR scan.
        """
        voxel_grid = pillar_grid(self.config.encoder, self.grid, self.training)
        return voxelize([_points(frame, rng) for frame in frames], voxel_grid)

    def forward(self, inputs: EncoderInput) -> Tensor:
        """The aligned feature maps (agents, C, ny, nx)."""
        aligned: Tensor = self.aligner(self.backbone(self.encoder(inputs)))
        return aligned


def _points(frame: AgentFrame, rng: np.random.Generator | None) -> Float32:
    if frame.lidar is None:
        raise ValueError(
            f"agent {frame.agent_id!r} has no LiDAR scan, and its type needs one; read the data with sensors={{'lidar'}}"
        )
    points = frame.lidar.points
    if rng is not None:
        points = points[rng.permutation(len(points))]
    return points[~points_on_own_vehicle(points)]
