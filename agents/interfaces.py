"""What a run needs of networks and of an alliance, as interfaces: tests and other frameworks can bring their own classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from heal.base_model import BaseModel
from heal.defence.statistics import MapStatistics
from heal.fusion.interface import AgentLevels, Coverage
from heal.grid import BevGrid
from heal.storage.compressors import StoredCompressor
from heal.types import AgentFrame, BoolMask, SensorChoice


class Encoder(Protocol):
    """The network of an agent type, such as `heal.agent_model.AgentModel`."""

    @property
    def sensor(self) -> SensorChoice:
        """The sensors that the network reads."""
        ...

    @property
    def coverage(self) -> tuple[float, float] | None:
        """The alliance's range divided by the range of the network's maps, in x and y; None if the maps cover all of it."""
        ...

    def covered_blocks(self, frame: AgentFrame) -> BoolMask | None:
        """Return the blocks (rows, columns) of the grid (`heal.grid.block_shape`) that the agent's sensors cover in a frame.

        None if the network does not tell them; then `coverage` counts.
        """
        ...

    def prepare(self, frames: Sequence[AgentFrame]) -> Any:
        """Turn the frames of agents into the input of the network."""
        ...

    def __call__(self, inputs: Any, /) -> Tensor:
        """Return the feature maps (agents, C, ny, nx), float32."""
        ...

    def to(self, device: torch.device, /) -> Any:
        """Move the network to a device."""
        ...


class Trunk(Protocol):
    """The part of a base that agents run too, such as `heal.fusion.pyramid.PyramidFusion`."""

    def trunk(self, features: Tensor) -> AgentLevels:
        """Return the scales of feature maps (agents, C, ny, nx)."""
        ...

    def scores(self, occupancy: Sequence[Tensor], coverage: Sequence[Coverage] | None = None) -> tuple[Tensor, ...]:
        """Return the foreground scores of all scales from their occupancy logits."""
        ...

    def to(self, device: torch.device, /) -> Any:
        """Move the network to a device."""
        ...


class AllianceLike(Protocol):
    """A base and the networks of agent types, such as `heal.alliance.Alliance`."""

    base: BaseModel

    @property
    def base_hash(self) -> str:
        """The content hash of the base."""
        ...

    @property
    def trunk(self) -> Trunk:
        """The part of the base that agents run too."""
        ...

    @property
    def grid(self) -> BevGrid:
        """The grid of all feature maps."""
        ...

    @property
    def compressors(self) -> Mapping[int, StoredCompressor]:
        """The compressors of feature maps, by ratio."""
        ...

    @property
    def agent_names(self) -> tuple[str, ...]:
        """The names of the agent types."""
        ...

    def agent(self, name: str, /) -> Encoder:
        """Return the network of one type."""
        ...

    def trust_of(self, name: str, /) -> float:
        """Return the factor in (0, 1] on the weight of one type's maps where they are fused with others."""
        ...


@runtime_checkable
class KnowsMaps(AllianceLike, Protocol):
    """An alliance that may know what the honest maps of its agent types are like."""

    def statistics_of(self, name: str, /) -> MapStatistics | None:
        """Return the statistics of one type's honest maps; None if they have not been recorded."""
        ...


@runtime_checkable
class DetectorsLike(AllianceLike, Protocol):
    """Agent types that detect alone, each with the base that it belongs to."""

    def base_of(self, name: str, /) -> BaseModel:
        """Return the base of one type."""
        ...
