"""What a run needs of networks and of an alliance, as interfaces: tests and other frameworks may bring their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from heal.base_model import BaseModel
from heal.fusion.pyramid import PyramidLevels
from heal.grid import BevGrid
from heal.types import AgentFrame, SensorChoice


class Encoder(Protocol):
    """What an agent needs of its network; `heal.agent_model.AgentModel` is one."""

    @property
    def sensor(self) -> SensorChoice:
        """What its agents sense."""
        ...

    @property
    def coverage(self) -> tuple[float, float] | None:
        """The shared range over that of its maps, in x and y; None if they cover all of it."""
        ...

    def prepare(self, frames: Sequence[AgentFrame]) -> Any:
        """Frames to what the network takes."""
        ...

    def __call__(self, inputs: Any, /) -> Tensor:
        """(agents, C, ny, nx) float32 feature maps."""
        ...

    def to(self, device: torch.device, /) -> Any:
        """Move it."""
        ...


class Trunk(Protocol):
    """What agents need of the base; `heal.fusion.pyramid.PyramidFusion` is one."""

    def trunk(self, features: Tensor) -> PyramidLevels:
        """The scales of feature maps (agents, C, ny, nx)."""
        ...

    def scores(
        self, occupancy: Sequence[Tensor], coverage: Sequence[tuple[float, float] | None] | None = None
    ) -> tuple[Tensor, ...]:
        """Their foreground scores."""
        ...

    def to(self, device: torch.device, /) -> Any:
        """Move it."""
        ...


class AllianceLike(Protocol):
    """What a run needs of an alliance; `heal.alliance.Alliance` is one."""

    base: BaseModel

    @property
    def base_hash(self) -> str:
        """Content hash of the base."""
        ...

    @property
    def trunk(self) -> Trunk:
        """The part of the base that agents compute too."""
        ...

    @property
    def grid(self) -> BevGrid:
        """Of all feature maps."""
        ...

    @property
    def agent_names(self) -> tuple[str, ...]:
        """The agent types."""
        ...

    def agent(self, name: str, /) -> Encoder:
        """The network of one type."""
        ...
