"""An agent's step: sense, encode, pack. A plain class; the runtimes decide where it computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from heal.agents.records import AgentLatency, AgentReport
from heal.grid import BevGrid
from heal.message import Message
from heal.types import AgentFrame, Float32, SceneSource, SensorChoice


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


@dataclass(frozen=True)
class AgentKit:
    """All that agents of one type share, wherever they run.

    Attributes:
        agent_type: such as "m1".
        encoder: its network, in eval mode.
        base_hash: the base that it is aligned to.
        grid: of its feature maps.
        source: where its sensor data comes from.
        keep_points: report LiDAR points, for pictures; of all ticks, or of these.
    """

    agent_type: str
    encoder: Encoder
    base_hash: str
    grid: BevGrid
    source: SceneSource
    keep_points: bool | frozenset[int] = False


class Agent:
    """One vehicle or roadside unit: turns what it senses into the bytes that it sends."""

    def __init__(self, agent_id: str, kit: AgentKit) -> None:
        """Give the agent its name and its equipment."""
        self.agent_id, self.kit = agent_id, kit

    def step(self, tick: int) -> tuple[bytes, AgentReport]:
        """Sense and encode one tick.

        Returns:
            The message's bytes, and the report that travels beside it.
        """
        started = perf_counter()
        frame = self.kit.source.agent_frame(tick, self.agent_id, self.kit.encoder.sensor)
        sensed = perf_counter()
        features = self._encode(frame)
        encoded = perf_counter()
        message = self._pack(frame, features)
        packed = perf_counter()
        latency = AgentLatency((sensed - started) * 1e3, (encoded - sensed) * 1e3, (packed - encoded) * 1e3)
        points = self._points(tick, frame)
        size = len(message)
        return message, AgentReport(self.agent_id, self.kit.agent_type, size, frame.world_SE3_agent, frame.objects, points, latency)

    def _encode(self, frame: AgentFrame) -> Float32:
        with torch.no_grad():
            features: Float32 = self.kit.encoder(self.kit.encoder.prepare([frame]))[0].numpy()
        return features

    def _pack(self, frame: AgentFrame, features: Float32) -> bytes:
        kit = self.kit
        pose, time = frame.world_SE3_agent_measured, frame.timestamp_ns
        return Message(
            self.agent_id, kit.agent_type, kit.base_hash, time, pose, kit.grid, features, kit.encoder.coverage
        ).to_bytes()

    def _points(self, tick: int, frame: AgentFrame) -> Float32 | None:
        kept = self.kit.keep_points
        if not (kept if isinstance(kept, bool) else tick in kept):
            return None
        return np.zeros((0, 4), np.float32) if frame.lidar is None else frame.lidar.points


class AgentHost:
    """Serves agents of one type with one network, one after the other."""

    def __init__(self, kit: AgentKit) -> None:
        """Hold the equipment; agents are made when first asked for."""
        self.kit = kit
        self._agents: dict[str, Agent] = {}

    def step(self, agent_id: str, tick: int) -> tuple[bytes, AgentReport]:
        """Let one agent step."""
        return self._agents.setdefault(agent_id, Agent(agent_id, self.kit)).step(tick)
