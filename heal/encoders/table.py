"""The encoders of one sensor, settings -> network, and the protocols of encoders: what a network must have and what it may have.

`heal.agent_model` adds the encoder that joins two of them, so this module names no encoder made of others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from heal.encoders.lift_splat import LiftSplat, LiftSplatConfig
from heal.encoders.lift_splat_depth import DepthPrediction
from heal.encoders.pixor import Pixor, PixorConfig
from heal.encoders.point_pillars import PointPillars, PointPillarsConfig
from heal.encoders.point_transformer import PointTransformer, PointTransformerConfig
from heal.encoders.second import Second, SecondConfig
from heal.encoders.voxel_net import VoxelNet, VoxelNetConfig
from heal.errors import UserError
from heal.plugins import ENCODER_TABLE, REMEDY, with_plugins

# A network has `cell_m`, `prepare` and `forward`.
ONE_SENSOR: dict[type[Any], type[Any]] = {
    PointPillarsConfig: PointPillars,
    SecondConfig: Second,
    LiftSplatConfig: LiftSplat,
    VoxelNetConfig: VoxelNet,
    PixorConfig: Pixor,
    PointTransformerConfig: PointTransformer,
}


class EncoderInput(Protocol):
    """The input of an encoder, as its `prepare` makes it from agents' frames."""

    def to(self, device: torch.device) -> EncoderInput:
        """Copy the input to another device."""
        ...


if TYPE_CHECKING:

    class AnyEncoderConfig(Protocol):
        """Settings of an encoder; `senses` tells which sensors the encoder needs: "lidar", "camera" or "both"."""

        senses: ClassVar[str]

        @property
        def kind(self) -> str: ...  # noqa: D102

        @property
        def out_channels(self) -> int: ...  # noqa: D102


@runtime_checkable
class DepthEncoder(Protocol):
    """An encoder that also predicts depth, so that training can supervise it."""

    def forward_with_depth(self, inputs: Any) -> tuple[Tensor, DepthPrediction | None]:
        """Return the feature maps and the predicted depths, if any."""
        ...


@runtime_checkable
class PretrainedEncoder(Protocol):
    """An encoder with a part whose trained weights are published, such as a camera trunk."""

    def load_pretrained(self) -> None:
        """Load the published weights; PretrainedWeightsError if they are not available."""
        ...


def maps_and_depth(encoder: Any, inputs: Any) -> tuple[Tensor, DepthPrediction | None]:
    """Return the feature maps (agents, C, ny, nx) of an encoder, and the depths that it predicts; None if it predicts none."""
    return encoder.forward_with_depth(inputs) if isinstance(encoder, DepthEncoder) else (encoder(inputs), None)


def encoders_of(sense: str) -> dict[type[Any], type[Any]]:
    """Return the encoders of one sensor, "lidar" or "camera", settings -> network: those of this package and of plugins."""
    return {settings: network for settings, network in with_plugins(ONE_SENSOR, ENCODER_TABLE).items() if settings.senses == sense}


def network_of(settings: AnyEncoderConfig, table: dict[type[Any], type[Any]]) -> type[Any]:
    """Return the network of an encoder's settings; UserError if the table does not have them."""
    encoder = table.get(type(settings))
    if encoder is None:
        raise UserError(f"encoder {settings.kind!r}: {type(settings).__name__} is in no table of encoders: {REMEDY}")
    return encoder
