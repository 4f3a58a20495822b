"""The network of one agent type: from the agent's own sensors to a feature map in the shared feature space of its alliance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from torch import Tensor, nn

from heal.aligners.aligner import Aligner, AlignerConfig, IdentityAlignerConfig
from heal.config import ByKind, config, later
from heal.encoders.coverage import RangedEncoder, fit_to_grid
from heal.encoders.covered import covered_blocks, parts_of, tells_blocks
from heal.encoders.lidar_and_camera import LidarAndCamera, LidarAndCameraConfig
from heal.encoders.lift_splat_depth import DepthPrediction
from heal.encoders.point_pillars import PointPillarsConfig
from heal.encoders.table import ONE_SENSOR, EncoderInput, PretrainedEncoder, maps_and_depth, network_of
from heal.errors import UserError
from heal.grid import BevGrid
from heal.layers.backbone import Backbone, BackboneConfig
from heal.layers.map_size import require_fitting
from heal.plugins import ENCODER_TABLE, REMEDY, with_plugins
from heal.types import BEAMS, AgentFrame, BoolMask, SensorChoice

if TYPE_CHECKING:
    from heal.encoders.table import AnyEncoderConfig

# The table of this package's encoders: settings -> network.
ENCODERS: dict[type[Any], type[Any]] = {**ONE_SENSOR, LidarAndCameraConfig: LidarAndCamera}


def known_encoders() -> dict[type[Any], type[Any]]:
    """Return the encoders that can be used, settings -> network: those of this package and of plugins (see `heal.plugins`)."""
    return with_plugins(ENCODERS, ENCODER_TABLE)


if TYPE_CHECKING:
    EncoderConfig = AnyEncoderConfig
else:
    EncoderConfig = Annotated[Any, ByKind(known_encoders, REMEDY)]


@config
class AgentConfig:
    """An agent type: sensor, encoder, backbone, aligner. The defaults are the paper's m1.

    Attributes:
        lidar_beams: laser lines of its LiDAR, for a LiDAR encoder: 16, 32 or 64.
        encoder: from sensor data to a map; it also determines the sensors of the type's agents.
        backbone: from the encoder's map to features.
        aligner: the last step into the shared feature space (HEAL, section 3.3).
        cell_coverage: whether cells that no sensor of an agent can see have no weight: those that no ray crossed, or that no camera
            has in view. Otherwise only the encoder's own range counts.
    """

    lidar_beams: int = 64
    encoder: EncoderConfig = PointPillarsConfig()
    backbone: BackboneConfig = BackboneConfig()
    aligner: AlignerConfig = IdentityAlignerConfig()
    cell_coverage: bool = later(False)

    def __post_init__(self) -> None:
        """Raise UserError for a number of laser lines that no data set has, or cells in view that nobody can tell."""
        if self.lidar_beams not in BEAMS:
            raise UserError(f"lidar_beams: expected one of {BEAMS}, got {self.lidar_beams}")
        if self.cell_coverage and not tells_blocks(self.encoder):
            raise UserError(
                "cell_coverage=true: which cells are in view is known for Lift-Splat and for LiDAR encoders without a range of "
                f"their own, not for {type(self.encoder).__name__}; leave the setting out"
            )

    @property
    def sensor(self) -> SensorChoice:
        """The sensor data that the type's agents need."""
        senses = self.encoder.senses
        return SensorChoice(lidar=senses != "camera", cameras=senses != "lidar", beams=self.lidar_beams)

    @property
    def sensor_in_training(self) -> SensorChoice:
        """The sensor data for training: with depth images if the encoder learns from them, with labels that the sensor can see."""
        supervised = any(getattr(part, "depth_supervision", False) for part in parts_of(self.encoder))
        return replace(self.sensor, depth=supervised, labels="lidar" if self.sensor.lidar else "camera")

    def coverage(self, grid: BevGrid) -> tuple[float, float] | None:
        """Return the alliance's range divided by the encoder's own, in x and y; None if the encoder has no range of its own."""
        return self.encoder.coverage(grid) if isinstance(self.encoder, RangedEncoder) else None


class AgentModel(nn.Module):
    """Encoder, backbone and aligner of one type."""

    def __init__(self, settings: AgentConfig, grid: BevGrid) -> None:
        """Make the network with random weights.

        Args:
            settings: configuration of the agent type.
            grid: the grid of the alliance, on which the feature map lies.

        Raises:
            UserError: the cells of the type's feature map do not have the size of the grid's cells, the strides of its backbone
                do not divide the range, or its encoder's settings are in no table of encoders.
        """
        super().__init__()
        self.config, self.grid = settings, grid
        self.encoder = network_of(settings.encoder, known_encoders())(settings.encoder, grid)
        self.backbone = Backbone(settings.backbone, settings.encoder.out_channels)
        self.aligner = Aligner(settings.aligner, settings.backbone.out_channels)
        self._require_cells_of(grid)
        self._require_size_of(grid)

    @property
    def sensor(self) -> SensorChoice:
        """The sensor data that the type's agents need."""
        return self.config.sensor

    @property
    def coverage(self) -> tuple[float, float] | None:
        """The alliance's range divided by the encoder's own, as in `AgentConfig.coverage`."""
        return self.config.coverage(self.grid)

    def on_grid(self, grid: BevGrid) -> AgentModel:
        """Return a copy of the network for another grid of equal cells, such as the alliance's after a training on a part of it."""
        copied = AgentModel(self.config, grid)
        copied.load_state_dict(self.state_dict())
        return copied

    def load_pretrained(self) -> None:
        """Load published weights if the encoder's settings ask for them; PretrainedWeightsError if they are not available."""
        if isinstance(self.encoder, PretrainedEncoder):
            self.encoder.load_pretrained()

    def prepare(self, frames: Sequence[AgentFrame], rng: np.random.Generator | None = None) -> EncoderInput:
        """Make the encoder's input for agents of this type.

        Args:
            frames: the frame of every agent.
            rng: random generator for training, such as for the order of points; None in evaluation.

        Raises:
            ValueError: an agent lacks a sensor that this type needs.
        """
        inputs: EncoderInput = self.encoder.prepare(frames, rng)
        return inputs

    def covered_blocks(self, frame: AgentFrame) -> BoolMask | None:
        """Return the blocks (rows, columns) of the grid that the agent's sensors cover; None if the type does not tell them."""
        return covered_blocks(self.config.encoder, frame, self.grid) if self.config.cell_coverage else None

    def forward(self, inputs: EncoderInput) -> Tensor:
        """Return the aligned feature maps (agents, C, ny, nx)."""
        return self.forward_with_depth(inputs)[0]

    def forward_with_depth(self, inputs: EncoderInput) -> tuple[Tensor, DepthPrediction | None]:
        """Return the aligned feature maps (agents, C, ny, nx), and the depths that a camera encoder predicts, for the loss."""
        maps, depth = maps_and_depth(self.encoder, inputs)
        aligned: Tensor = self.aligner(self.backbone(maps))
        return (aligned if self.coverage is None else fit_to_grid(aligned, self.grid)), depth

    def _require_cells_of(self, grid: BevGrid) -> None:
        reduction = self.config.backbone.reduction
        cells_m = tuple(cell * reduction for cell in self.encoder.cell_m)
        if any(abs(cell - grid.cell_m) > 1e-6 for cell in cells_m):
            raise UserError(
                f"the encoder's cells of {self.encoder.cell_m} m become {cells_m} m through the backbone, which makes them "
                f"{reduction:g} times as large, but the alliance's grid has cells of {grid.cell_m} m; "
                "change the encoder's cells or the backbone's strides"
            )

    def _require_size_of(self, grid: BevGrid) -> None:
        """Raise ConfigError unless the backbone maps the encoder's range to a whole number of the grid's cells."""
        backbone = self.config.backbone

        def fits(cells: int) -> bool:
            out = backbone.output_cells(cells)
            return out is not None and abs(out * backbone.reduction - cells) < 1e-6

        lengths_m, ratios = (grid.length_x_m, grid.length_y_m), self.coverage or (1.0, 1.0)
        for axis, length_m, ratio, cell_m in zip("xy", lengths_m, ratios, self.encoder.cell_m, strict=True):
            require_fitting(axis, round(length_m / ratio / cell_m), cell_m, fits)
