"""Aligners: the last step of an agent, into the feature space that its alliance shares (HEAL, section 3.3)."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from torch import Tensor, nn

from heal.aligners.convnext import ConvNextAligner, ConvNextAlignerConfig, SdtaAligner, SdtaAlignerConfig
from heal.aligners.fanet import FanetAligner, FanetAlignerConfig
from heal.aligners.residual import (
    CbamAligner,
    CbamAlignerConfig,
    CellAligner,
    CellAlignerConfig,
    ResidualAligner,
    ResidualAlignerConfig,
)
from heal.config import BY_KIND, config


@config
class IdentityAlignerConfig:
    """No aligner: the type that the base was trained with is aligned by construction."""

    kind: Literal["identity"] = "identity"


AlignerConfig: TypeAlias = Annotated[
    IdentityAlignerConfig
    | ConvNextAlignerConfig
    | ResidualAlignerConfig
    | CellAlignerConfig
    | SdtaAlignerConfig
    | CbamAlignerConfig
    | FanetAlignerConfig,
    BY_KIND,
]


class IdentityAligner(nn.Module):
    """Hands the map through."""

    def __init__(self, settings: IdentityAlignerConfig, channels: int) -> None:
        """Nothing to make."""
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ny, nx), unchanged."""
        return x


# Each takes its settings and the number of channels, and maps (N, C, ny, nx) to the same shape.
ALIGNERS: dict[str, Any] = {
    "identity": IdentityAligner,
    "convnext": ConvNextAligner,
    "resnet1x1": ResidualAligner,
    "resnet3x3": ResidualAligner,
    "scaligner": CellAligner,
    "sdta": SdtaAligner,
    "cbam": CbamAligner,
    "fanet": FanetAligner,
}


class Aligner(nn.Module):
    """The aligner of a type."""

    def __init__(self, settings: AlignerConfig, channels: int) -> None:
        """The one that `settings.kind` names, for maps of that many channels; ValueError if it cannot work on so many."""
        super().__init__()
        self.channel_align: nn.Module = ALIGNERS[settings.kind](settings, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ny, nx), same shape, in the shared feature space."""
        aligned: Tensor = self.channel_align(x)
        return aligned
