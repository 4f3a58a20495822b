"""The aligner of an agent type: the last step into the feature space that its alliance shares (HEAL, section 3.3)."""

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
    """Settings of no aligner, for the agent type that the base was trained with: its maps are in the shared space already."""

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
    """An aligner that returns the map unchanged."""

    def __init__(self, settings: IdentityAlignerConfig, channels: int) -> None:
        """Take the arguments that every aligner takes; this aligner has no layers."""
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Return the map (N, C, ny, nx) itself."""
        return x


# The class of every kind. A class takes its settings and the number of channels, and maps (N, C, ny, nx) to the same shape.
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
    """The aligner of an agent type, of the kind that its settings name."""

    def __init__(self, settings: AlignerConfig, channels: int) -> None:
        """Make the aligner that `settings.kind` names, for maps of `channels` channels.

        Raises:
            ValueError: this kind of aligner cannot work with so many channels.
        """
        super().__init__()
        self.channel_align: nn.Module = ALIGNERS[settings.kind](settings, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, ny, nx) to the same shape, in the shared feature space."""
        aligned: Tensor = self.channel_align(x)
        return aligned
