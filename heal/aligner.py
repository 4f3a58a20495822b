"""Aligners: the last step of an agent, into the feature space that its alliance shares (HEAL, section 3.3)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from heal.config import config


@config
class IdentityAlignerConfig:
    """No aligner: the type that the base was trained with is aligned by construction."""

    kind: Literal["identity"] = "identity"


AlignerConfig = IdentityAlignerConfig


class IdentityAligner(nn.Module):
    """Hands the map through."""

    def __init__(self, settings: IdentityAlignerConfig, channels: int) -> None:
        """Nothing to make."""
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ny, nx), unchanged."""
        return x


ALIGNERS: dict[str, type[IdentityAligner]] = {"identity": IdentityAligner}


def make_aligner(settings: AlignerConfig, channels: int) -> nn.Module:
    """The aligner that `settings.kind` names, for maps of that many channels."""
    return ALIGNERS[settings.kind](settings, channels)
