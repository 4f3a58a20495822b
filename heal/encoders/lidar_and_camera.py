"""LiDAR and cameras in one agent: two encoders, whose maps are joined and convolved (BEVFusion, Liu et al., ICRA 2023, III-C).

Each encoder makes a map seen from above, in the agent's frame. The camera map is fitted to the alliance's range. One convolution
corrects how well the two lie on each other, where the paper has several with residual blocks: the agent's backbone follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from heal.config import ByKind, config
from heal.encoders.coverage import RangedEncoder, fit_to_grid
from heal.encoders.lift_splat import LiftSplatConfig
from heal.encoders.lift_splat_depth import DepthPrediction
from heal.encoders.point_pillars import PointPillarsConfig
from heal.encoders.table import EncoderInput, PretrainedEncoder, encoders_of, maps_and_depth, network_of
from heal.errors import UserError
from heal.grid import BevGrid
from heal.types import AgentFrame, BoolMask

if TYPE_CHECKING:
    from heal.encoders.table import AnyEncoderConfig

    LidarEncoderConfig = AnyEncoderConfig
    CameraEncoderConfig = AnyEncoderConfig
else:
    LidarEncoderConfig = Annotated[Any, ByKind(partial(encoders_of, "lidar"))]
    CameraEncoderConfig = Annotated[Any, ByKind(partial(encoders_of, "camera"))]


@config
class LidarAndCameraConfig:
    """The encoder's settings.

    Attributes:
        kind: names this encoder.
        lidar: the encoder of the sweep.
        camera: the encoder of the images; the cells of its map have the size of those of the LiDAR encoder's map.
        channels: channels of the joined map.
        drop: probability that an agent has to do without one of the two sensors in training, each of them as often. A type that has
            learned so also runs with an agent that lacks a sensor; another type raises an error then.
    """

    senses: ClassVar[str] = "both"
    kind: Literal["both"] = "both"
    lidar: LidarEncoderConfig = PointPillarsConfig()
    camera: CameraEncoderConfig = LiftSplatConfig()
    channels: int = 128
    drop: float = 0.0

    def __post_init__(self) -> None:
        """Raise UserError for a share that is no probability below 1, or an encoder of another sensor."""
        if not 0 <= self.drop < 1:
            raise UserError(f"drop: expected a probability from 0 to below 1, got {self.drop}")
        for part, sense in ((self.lidar, "lidar"), (self.camera, "camera")):
            if part.senses != sense:
                raise UserError(f"{sense}: expected an encoder of this sensor, got {part.kind!r}, whose sensor is {part.senses!r}")

    @property
    def parts(self) -> tuple[AnyEncoderConfig, AnyEncoderConfig]:
        """The settings of both encoders, the LiDAR's first."""
        return self.lidar, self.camera

    @property
    def out_channels(self) -> int:
        """Channels of the map."""
        return self.channels


@dataclass(frozen=True)
class PartInput:
    """The input of one of the two encoders.

    Attributes:
        agents: (K,) int64 indices of the agents with this sensor.
        inputs: of these agents; None if there is none.
    """

    agents: Tensor
    inputs: EncoderInput | None

    def to(self, device: torch.device) -> PartInput:
        """Copy the input to another device."""
        return PartInput(self.agents.to(device), None if self.inputs is None else self.inputs.to(device))


@dataclass(frozen=True)
class LidarAndCameraInput:
    """The inputs of both encoders for a number of agents."""

    lidar: PartInput
    camera: PartInput
    agents: int

    def to(self, device: torch.device) -> LidarAndCameraInput:
        """Copy the inputs to another device."""
        return LidarAndCameraInput(self.lidar.to(device), self.camera.to(device), self.agents)


class LidarAndCamera(nn.Module):
    """The encoder, from sweeps and images to one feature map."""

    def __init__(self, settings: LidarAndCameraConfig, grid: BevGrid) -> None:
        """Make the networks with random weights.

        Args:
            settings: of both encoders.
            grid: of the alliance; the map covers its range.

        Raises:
            UserError: the maps of the two encoders have cells of different sizes, or no table of encoders has their settings.
        """
        super().__init__()
        self.settings = settings
        self.lidar = network_of(settings.lidar, encoders_of("lidar"))(settings.lidar, grid)
        self.camera = network_of(settings.camera, encoders_of("camera"))(settings.camera, grid)
        cells_m: list[tuple[float, float]] = [self.lidar.cell_m, self.camera.cell_m]
        if max(abs(a - b) for a, b in zip(*cells_m, strict=True)) > 1e-6 or abs(cells_m[0][0] - cells_m[0][1]) > 1e-6:
            raise UserError(
                f"expected square cells of one size from both encoders, got {cells_m[0]} m from {settings.lidar.kind} and "
                f"{cells_m[1]} m from {settings.camera.kind}; change their cells"
            )
        self._grid = BevGrid(grid.range_m, cells_m[0][0])
        width = settings.lidar.out_channels + settings.camera.out_channels
        self.fuse = nn.Sequential(
            nn.Conv2d(width, settings.channels, 3, padding=1, bias=False), nn.BatchNorm2d(settings.channels), nn.ReLU(inplace=True)
        )

    @property
    def cell_m(self) -> tuple[float, float]:
        """Edges of a cell of the map, in x and y."""
        return self._grid.cell_m, self._grid.cell_m

    def load_pretrained(self) -> None:
        """Load published weights into the encoders that have them; PretrainedWeightsError if they are not available."""
        for encoder in (self.lidar, self.camera):
            if isinstance(encoder, PretrainedEncoder):
                encoder.load_pretrained()

    def prepare(self, frames: Sequence[AgentFrame], rng: np.random.Generator | None = None) -> LidarAndCameraInput:
        """Make the inputs of both encoders.

        Args:
            frames: one for every agent.
            rng: varies the inputs in training and draws the agents that do without a sensor; None in evaluation.

        Raises:
            UserError: an agent lacks a sensor. In evaluation, a type with `drop` needs only one of the two.
        """
        has = np.array([(frame.lidar is not None, bool(frame.cameras)) for frame in frames], bool).reshape(-1, 2)
        if rng is None and self.settings.drop:
            has |= ~has.any(axis=1, keepdims=True)  # who has neither sensor gets an encoder's error
        else:
            has[:] = True  # who lacks a sensor gets its encoder's error
        if rng is not None and self.settings.drop:
            dropped = rng.random(len(frames)) < self.settings.drop
            has[dropped, rng.integers(2, size=len(frames))[dropped]] = False
        lidar, camera = (
            self._part(encoder, frames, use, rng) for encoder, use in zip((self.lidar, self.camera), has.T, strict=True)
        )
        return LidarAndCameraInput(lidar, camera, len(frames))

    def forward(self, inputs: LidarAndCameraInput) -> Tensor:
        """Return the feature maps (agents, C, ny, nx)."""
        return self.forward_with_depth(inputs)[0]

    def forward_with_depth(self, inputs: LidarAndCameraInput) -> tuple[Tensor, DepthPrediction | None]:
        """Return the feature maps (agents, C, ny, nx), and the depths that the camera encoder predicts, if any, for the loss.

        The map of a sensor that an agent lacks is zero.
        """
        lidar, _ = self._map(self.lidar, self.settings.lidar, inputs.lidar, inputs.agents)
        camera, depth = self._map(self.camera, self.settings.camera, inputs.camera, inputs.agents)
        joined: Tensor = self.fuse(torch.cat([lidar, camera], dim=1))
        return joined, depth

    @staticmethod
    def _part(encoder: Any, frames: Sequence[AgentFrame], use: BoolMask, rng: np.random.Generator | None) -> PartInput:
        """Make the input of one encoder from the frames that it uses."""
        used = [frame for frame, needed in zip(frames, use, strict=True) if needed]
        return PartInput(torch.from_numpy(np.flatnonzero(use)), encoder.prepare(used, rng) if used else None)

    def _map(
        self, encoder: nn.Module, settings: AnyEncoderConfig, part: PartInput, agents: int
    ) -> tuple[Tensor, DepthPrediction | None]:
        """Return one encoder's maps (agents, C, ny, nx) on the grid, and the depths that it predicts."""
        if part.inputs is None:
            return next(self.parameters()).new_zeros(agents, settings.out_channels, self._grid.ny, self._grid.nx), None
        maps, depth = maps_and_depth(encoder, part.inputs)
        if isinstance(settings, RangedEncoder):
            maps = fit_to_grid(maps, self._grid)
        if len(part.agents) == agents:
            return maps, depth
        return maps.new_zeros(agents, *maps.shape[1:]).index_copy(0, part.agents, maps), depth
