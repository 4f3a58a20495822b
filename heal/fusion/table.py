"""The table of the fusions that take the place of Pyramid Fusion in a base, and how they are made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Protocol

from heal.config import ByKind
from heal.fusion.attention import AttentionConfig, AttentionFusion
from heal.fusion.ego_only import EgoOnly, EgoOnlyConfig
from heal.fusion.interface import Fusion
from heal.fusion.maximum import MaximumConfig, MaximumFusion
from heal.fusion.pyramid import PyramidConfig, PyramidFusion
from heal.fusion.single_agent import SingleAgentPyramid
from heal.grid import BevGrid

# Settings -> fusion. A line here is all that a new fusion needs beside its own file.
FUSIONS: dict[type[Any], type[Fusion]] = {
    EgoOnlyConfig: EgoOnly,
    MaximumConfig: MaximumFusion,
    AttentionConfig: AttentionFusion,
}


if TYPE_CHECKING:

    class FusionConfig(Protocol):
        """Settings of a fusion; its strides tell which sizes of a grid it takes, as those of `PyramidConfig` do."""

        @property
        def kind(self) -> str: ...  # noqa: D102

        @property
        def strides(self) -> tuple[int, ...]: ...  # noqa: D102

        @property
        def upsample_strides(self) -> tuple[float, ...]: ...  # noqa: D102

else:
    FusionConfig = Annotated[Any, ByKind(lambda: FUSIONS)]


def make_fusion(settings: FusionConfig | PyramidConfig, in_channels: int, grid: BevGrid) -> Fusion:
    """Make the part of a base between the agents' maps and the heads, for maps of `in_channels` channels on `grid`.

    It is Pyramid Fusion, the stages of a single-agent detector, or a fusion of the table.
    """
    if isinstance(settings, PyramidConfig):
        kind = SingleAgentPyramid if settings.single_agent else PyramidFusion
        return kind(settings, in_channels, grid)
    make: Any = FUSIONS[type(settings)]
    fusion: Fusion = make(settings, in_channels, grid)
    return fusion
