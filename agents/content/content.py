"""The content of a message, and what makes it from an agent's sensor data and features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from heal.fusion.interface import Coverage
from heal.message.codec import Codec
from heal.types import AgentFrame


@dataclass(frozen=True)
class Sensed:
    """What an agent has of a tick: its sensor data, and its features (1, C, ny, nx) with their coverage.

    Where no network runs (`ContentMaker.encodes`), the features are empty, (1, 0).
    """

    frame: AgentFrame
    features: Tensor
    coverage: Coverage


@dataclass(frozen=True)
class Content:
    """The content of a message.

    Attributes:
        maps: (1, C, ny, nx) each, see `Message.maps`.
        scores: foreground scores (1, 1, ny, nx) of the maps where a receiver needs them, or where the codec chooses cells by them.
        codec: how the maps are written.
    """

    maps: tuple[Tensor, ...]
    scores: tuple[Tensor, ...]
    codec: Codec


class ContentMaker(Protocol):
    """Makes what the agents of one type send.

    Attributes:
        encodes: whether the network of the agent type runs.
    """

    encodes: bool

    def content(self, sensed: Sensed, codec: Codec) -> Content | None:
        """Return what an agent sends with a codec; None if it has nothing to send."""
        ...

    def heat(self, sensed: Sensed, content: Content | None) -> Tensor:
        """Return the foreground scores (1, 1, ny, nx) that pictures show of an agent."""
        ...
