"""The table of the fusions that take the place of Pyramid Fusion in a base, and how they are made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Protocol

from heal.config import ByKind
from heal.errors import UserError
from heal.fusion.attention import AttentionConfig, AttentionFusion
from heal.fusion.coalign import CoAlign, CoAlignConfig
from heal.fusion.cobevt import Cobevt, CobevtConfig
from heal.fusion.disconet import DiscoNet, DiscoNetConfig
from heal.fusion.ego_only import EgoOnly, EgoOnlyConfig
from heal.fusion.hmvit import HmVit, HmVitConfig
from heal.fusion.interface import Fusion
from heal.fusion.maximum import MaximumConfig, MaximumFusion
from heal.fusion.mpda import Mpda, MpdaConfig
from heal.fusion.pyramid import PyramidConfig, PyramidFusion
from heal.fusion.single_agent import SingleAgentPyramid
from heal.fusion.v2vnet import V2VNet, V2VNetConfig
from heal.fusion.v2xvit import V2xVit, V2xVitConfig
from heal.fusion.where2comm import Where2comm, Where2commConfig
from heal.grid import BevGrid
from heal.plugins import FUSION_TABLE, REMEDY, with_plugins

# Settings -> fusion. A line here is all that a new fusion needs beside its own file.
FUSIONS: dict[type[Any], type[Fusion]] = {
    EgoOnlyConfig: EgoOnly,
    MaximumConfig: MaximumFusion,
    AttentionConfig: AttentionFusion,
    V2VNetConfig: V2VNet,
    DiscoNetConfig: DiscoNet,
    CoAlignConfig: CoAlign,
    Where2commConfig: Where2comm,
    CobevtConfig: Cobevt,
    V2xVitConfig: V2xVit,
    HmVitConfig: HmVit,
    MpdaConfig: Mpda,
}


def known_fusions() -> dict[type[Any], type[Any]]:
    """Return the fusions that can be used, settings -> fusion: those of this package and of plugins (see `heal.plugins`)."""
    return with_plugins(FUSIONS, FUSION_TABLE)


if TYPE_CHECKING:

    class FusionConfig(Protocol):
        """Settings of a fusion: its strides tell its scales, as those of `PyramidConfig` do, and whether it scores foreground."""

        @property
        def kind(self) -> str: ...  # noqa: D102

        @property
        def strides(self) -> tuple[int, ...]: ...  # noqa: D102

        @property
        def upsample_strides(self) -> tuple[float, ...]: ...  # noqa: D102

        @property
        def foreground(self) -> bool: ...  # noqa: D102

else:
    FusionConfig = Annotated[Any, ByKind(known_fusions, REMEDY)]


def make_fusion(settings: FusionConfig | PyramidConfig, in_channels: int, grid: BevGrid) -> Fusion:
    """Make the part of a base between the agents' maps and the heads, for maps of `in_channels` channels on `grid`.

    It is Pyramid Fusion, the stages of a single-agent detector, a fusion of the table, or one of a plugin.

    Raises:
        UserError: the settings are in no table of fusions.
    """
    if isinstance(settings, PyramidConfig):
        kind = SingleAgentPyramid if settings.single_agent else PyramidFusion
        return kind(settings, in_channels, grid)
    make = known_fusions().get(type(settings))
    if make is None:
        raise UserError(f"fusion {settings.kind!r}: {type(settings).__name__} is in no table of fusions: {REMEDY}")
    fusion: Fusion = make(settings, in_channels, grid)
    return fusion
