"""One agent type: from its own sensors to a feature map in the shared space. It knows nothing of other agents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias

import numpy as np
from torch import Tensor, nn

from heal.aligner import Aligner, AlignerConfig, IdentityAlignerConfig
from heal.backbone import Backbone, BackboneConfig
from heal.config import BY_KIND, config
from heal.encoders.point_pillars import PointPillars, PointPillarsConfig
from heal.encoders.second import Second, SecondConfig
from heal.grid import BevGrid
from heal.types import AgentFrame
from heal.voxelize import Voxels

# A new encoder joins these four; what it must have is `cell_m`, `prepare` and `forward`, as PointPillars has them.
EncoderConfig: TypeAlias = Annotated[PointPillarsConfig | SecondConfig, BY_KIND]
Encoder: TypeAlias = PointPillars | Second
EncoderInput: TypeAlias = Voxels
ENCODERS: dict[str, Any] = {"point_pillars": PointPillars, "second": Second}


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
        self.encoder: Encoder = ENCODERS[settings.encoder.kind](settings.encoder, grid)
        self.backbone = Backbone(settings.backbone, settings.encoder.out_channels)
        self.aligner = Aligner(settings.aligner, settings.backbone.out_channels)
        self._require_cells_of(grid)

    def prepare(self, frames: Sequence[AgentFrame], rng: np.random.Generator | None = None) -> EncoderInput:
        """What the encoder takes, for agents of this type.

        Args:
            frames: one for every agent.
            rng: for what is random in training, such as the order of points; None in evaluation.

        Raises:
            ValueError: an agent lacks a sensor that this type needs.
        """
        return self.encoder.prepare(frames, rng)

    def forward(self, inputs: EncoderInput) -> Tensor:
        """The aligned feature maps (agents, C, ny, nx)."""
        aligned: Tensor = self.aligner(self.backbone(self.encoder(inputs)))
        return aligned

    def _require_cells_of(self, grid: BevGrid) -> None:
        reduction = self.config.backbone.reduction
        cells_m = tuple(cell * reduction for cell in self.encoder.cell_m)
        if any(abs(cell - grid.cell_m) > 1e-6 for cell in cells_m):
            raise ValueError(
                f"the encoder's cells of {self.encoder.cell_m} m become {cells_m} m through the backbone, which makes them "
                f"{reduction:g} times as large, but the alliance's grid has cells of {grid.cell_m} m; "
                "change the encoder's cells or the backbone's strides"
            )
