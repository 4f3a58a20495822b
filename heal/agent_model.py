"""One agent type: from its own sensors to a feature map in the shared space. It knows nothing of other agents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol, Union, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from heal.aligners.aligner import Aligner, AlignerConfig, IdentityAlignerConfig
from heal.config import BY_KIND, config
from heal.encoders.coverage import OwnRange, fit_to_grid
from heal.encoders.lift_splat import LiftSplat, LiftSplatConfig
from heal.encoders.lift_splat_depth import DepthPrediction
from heal.encoders.point_pillars import PointPillars, PointPillarsConfig
from heal.encoders.second import Second, SecondConfig
from heal.grid import BevGrid
from heal.layers.backbone import Backbone, BackboneConfig
from heal.types import BEAMS, AgentFrame, SensorChoice

# Settings and network of every encoder, the only place that names them. A network has `cell_m`, `prepare` and `forward`.
ENCODERS: dict[type[Any], type[Any]] = {
    PointPillarsConfig: PointPillars,
    SecondConfig: Second,
    LiftSplatConfig: LiftSplat,
}


class EncoderInput(Protocol):
    """What an encoder's `prepare` makes of agents' frames."""

    def to(self, device: torch.device) -> EncoderInput:
        """The same on another device."""
        ...


if TYPE_CHECKING:

    class EncoderConfig(Protocol):
        """Settings of an encoder; `senses` says which sensor it needs, "lidar" or "camera"."""

        senses: ClassVar[str]

        @property
        def kind(self) -> str: ...  # noqa: D102

        @property
        def out_channels(self) -> int: ...  # noqa: D102

else:
    EncoderConfig = Annotated[Union[tuple(ENCODERS)], BY_KIND]  # noqa: UP007 - the table is only known at run time


@runtime_checkable
class DepthEncoder(Protocol):
    """An encoder that can be taught depth."""

    def forward_with_depth(self, inputs: Any) -> tuple[Tensor, DepthPrediction]:
        """The feature maps, and what it thinks of depth."""
        ...


@runtime_checkable
class PretrainedEncoder(Protocol):
    """An encoder with a part that somebody else has trained."""

    def load_pretrained(self) -> None:
        """Load it; PretrainedWeightsError if it cannot be had."""
        ...


@config
class AgentConfig:
    """An agent type: sensor, encoder, backbone, aligner. The defaults are the paper's m1.

    Attributes:
        lidar_beams: lines of its LiDAR, for an encoder of clouds: 16, 32 or 64.
        encoder: from what its agents sense to a map; it says which sensors they have.
        backbone: from there into the shared feature space.
        aligner: the last step into it.
    """

    lidar_beams: int = 64
    encoder: EncoderConfig = PointPillarsConfig()
    backbone: BackboneConfig = BackboneConfig()
    aligner: AlignerConfig = IdentityAlignerConfig()

    def __post_init__(self) -> None:
        """Raise ValueError for a LiDAR that no data set has."""
        if self.lidar_beams not in BEAMS:
            raise ValueError(f"lidar_beams: expected one of {BEAMS}, got {self.lidar_beams}")

    @property
    def sensor(self) -> SensorChoice:
        """What its agents sense."""
        cameras = self.encoder.senses == "camera"
        return SensorChoice(lidar=not cameras, cameras=cameras, beams=self.lidar_beams)

    @property
    def sensor_in_training(self) -> SensorChoice:
        """What is read to train it: depth images too if its encoder learns from them, and of labels those that it can see."""
        taught = getattr(self.encoder, "depth_supervision", False)
        return replace(self.sensor, depth=taught, labels="lidar" if self.sensor.lidar else "camera")

    def coverage(self, grid: BevGrid) -> tuple[float, float] | None:
        """The alliance's range over the encoder's own, in x and y; None for an encoder that covers whatever range there is."""
        return self.encoder.coverage(grid) if isinstance(self.encoder, OwnRange) else None


class AgentModel(nn.Module):
    """Encoder, backbone and aligner of one type."""

    def __init__(self, settings: AgentConfig, grid: BevGrid) -> None:
        """For an alliance's grid.

        Raises:
            ValueError: if the type's feature map would not lie on the grid.
        """
        super().__init__()
        self.config, self.grid = settings, grid
        self.encoder = ENCODERS[type(settings.encoder)](settings.encoder, grid)
        self.backbone = Backbone(settings.backbone, settings.encoder.out_channels)
        self.aligner = Aligner(settings.aligner, settings.backbone.out_channels)
        self._require_cells_of(grid)

    @property
    def sensor(self) -> SensorChoice:
        """What its agents sense."""
        return self.config.sensor

    @property
    def coverage(self) -> tuple[float, float] | None:
        """As `AgentConfig.coverage`, for the alliance's grid."""
        return self.config.coverage(self.grid)

    def load_pretrained(self) -> None:
        """Begin with what others have trained, where the settings want it; PretrainedWeightsError if it cannot be had."""
        if isinstance(self.encoder, PretrainedEncoder):
            self.encoder.load_pretrained()

    def prepare(self, frames: Sequence[AgentFrame], rng: np.random.Generator | None = None) -> EncoderInput:
        """What the encoder takes, for agents of this type.

        Args:
            frames: one for every agent.
            rng: for what is random in training, such as the order of points; None in evaluation.

        Raises:
            ValueError: an agent lacks a sensor that this type needs.
        """
        inputs: EncoderInput = self.encoder.prepare(frames, rng)
        return inputs

    def forward(self, inputs: EncoderInput) -> Tensor:
        """The aligned feature maps (agents, C, ny, nx)."""
        return self.forward_with_depth(inputs)[0]

    def forward_with_depth(self, inputs: EncoderInput) -> tuple[Tensor, DepthPrediction | None]:
        """The aligned feature maps (agents, C, ny, nx), and for the loss what a camera encoder thinks of depth."""
        depth: DepthPrediction | None = None
        if isinstance(self.encoder, DepthEncoder):
            maps, depth = self.encoder.forward_with_depth(inputs)
        else:
            maps = self.encoder(inputs)
        aligned: Tensor = self.aligner(self.backbone(maps))
        return (aligned if self.coverage is None else fit_to_grid(aligned, self.grid)), depth

    def _require_cells_of(self, grid: BevGrid) -> None:
        reduction = self.config.backbone.reduction
        cells_m = tuple(cell * reduction for cell in self.encoder.cell_m)
        if any(abs(cell - grid.cell_m) > 1e-6 for cell in cells_m):
            raise ValueError(
                f"the encoder's cells of {self.encoder.cell_m} m become {cells_m} m through the backbone, which makes them "
                f"{reduction:g} times as large, but the alliance's grid has cells of {grid.cell_m} m; "
                "change the encoder's cells or the backbone's strides"
            )
