"""An alliance and a network that vary others: what a variation does not change is passed on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from typing_extensions import Self

from heal.agents.interfaces import AllianceLike, Encoder, KnowsMaps, Trunk
from heal.defence.statistics import MapStatistics
from heal.grid import BevGrid
from heal.storage.compressors import StoredCompressor
from heal.types import AgentFrame, BoolMask, SensorChoice


class Frames(tuple[AgentFrame, ...]):
    """Frames as the input of a network that prepares them itself."""

    def to(self, device: torch.device) -> Self:
        """Return the frames: what is made of them goes to the device."""
        return self


class WrappedEncoder:
    """The network of an agent type, from frames as they are; its variations return the feature maps of the frames."""

    def __init__(self, encoder: Encoder) -> None:
        """Wrap a network."""
        self._encoder, self._device = encoder, torch.device("cpu")

    def encode(self, frames: Sequence[AgentFrame]) -> Tensor:
        """Return the feature maps (agents, C, ny, nx) of frames by the network that is wrapped."""
        maps: Tensor = self._encoder(self._encoder.prepare(frames).to(self._device))
        return maps

    @property
    def sensor(self) -> SensorChoice:
        """The sensors that the network reads."""
        return self._encoder.sensor

    @property
    def coverage(self) -> tuple[float, float] | None:
        """The alliance's range divided by the range of the network's maps, in x and y; None if the maps cover all of it."""
        return self._encoder.coverage

    def covered_blocks(self, frame: AgentFrame) -> BoolMask | None:
        """Return the blocks of the grid that the agent's sensors cover."""
        return self._encoder.covered_blocks(frame)

    def prepare(self, frames: Sequence[AgentFrame]) -> Frames:
        """Return the frames unchanged: a variation decides itself whether the network is run."""
        return Frames(frames)

    def to(self, device: torch.device) -> Self:
        """Move the network to a device; return self."""
        self._encoder.to(device)
        self._device = device
        return self


class WrappedAlliance:
    """An alliance like another one; its variations have other networks."""

    def __init__(self, alliance: AllianceLike) -> None:
        """Wrap an alliance; the networks are shared with it."""
        self._alliance, self.base = alliance, alliance.base

    @property
    def base_hash(self) -> str:
        """Content hash of the base."""
        return self._alliance.base_hash

    @property
    def trunk(self) -> Trunk:
        """The part of the base that agents run too."""
        return self._alliance.trunk

    @property
    def grid(self) -> BevGrid:
        """The grid of all feature maps."""
        return self._alliance.grid

    @property
    def compressors(self) -> Mapping[int, StoredCompressor]:
        """The compressors of feature maps, by ratio."""
        return self._alliance.compressors

    @property
    def agent_names(self) -> tuple[str, ...]:
        """The names of the agent types."""
        return self._alliance.agent_names

    def agent(self, name: str) -> Encoder:
        """Return the network of one type."""
        return self._alliance.agent(name)

    def trust_of(self, name: str) -> float:
        """Return the factor on the weight of one type's maps in the fusion."""
        return self._alliance.trust_of(name)

    def statistics_of(self, name: str) -> MapStatistics | None:
        """Return the statistics of one type's honest maps."""
        return self._alliance.statistics_of(name) if isinstance(self._alliance, KnowsMaps) else None
