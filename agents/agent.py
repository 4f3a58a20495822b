"""An agent's step: sense, encode, pack. Plain classes; the runtimes decide where they compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic, perf_counter

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from heal.agents.interfaces import AllianceLike, Encoder, Trunk
from heal.agents.options import RunOptions
from heal.agents.records import AgentLatency, AgentReport
from heal.grid import BevGrid
from heal.message.codec import Codec
from heal.message.message import Message
from heal.types import AgentFrame, Float32, SceneSource


@dataclass(frozen=True)
class AgentKit:
    """All that agents of one type share, wherever they run.

    Attributes:
        agent_type: such as "m1".
        encoder: its network, in eval mode.
        trunk: the base's, which tells foreground, and makes the scales that are sent under `split: pyramid`.
        base_hash: the base that it is aligned to.
        grid: of its feature maps.
        source: where its sensor data comes from.
        options: of the run.
    """

    agent_type: str
    encoder: Encoder
    trunk: Trunk
    base_hash: str
    grid: BevGrid
    source: SceneSource
    options: RunOptions

    @staticmethod
    def of(alliance: AllianceLike, agent_type: str, source: SceneSource, options: RunOptions) -> AgentKit:
        """The equipment of one of an alliance's types."""
        encoder = alliance.agent(agent_type)
        return AgentKit(agent_type, encoder, alliance.trunk, alliance.base_hash, alliance.grid, source, options)


@dataclass(frozen=True)
class Errand:
    """What an agent is asked for in a tick: a message, in this codec."""

    agent_id: str
    codec: Codec


@dataclass(frozen=True)
class _Content:
    """What goes into a message: maps and foreground scores of every scale, the scores (1, 1, ny, nx) where they are wanted."""

    maps: tuple[Tensor, ...]
    scores: tuple[Tensor, ...]


class Agent:
    """One vehicle or roadside unit: turns what it senses into the bytes that it sends."""

    def __init__(self, agent_id: str, kit: AgentKit) -> None:
        """Give the agent its name and its equipment."""
        self.agent_id, self.kit = agent_id, kit

    def sense(self, tick: int) -> AgentFrame:
        """What its sensors give in a tick."""
        return self.kit.source.agent_frame(tick, self.agent_id, self.kit.encoder.sensor)

    def pack(self, tick: int, frame: AgentFrame, features: Tensor, codec: Codec) -> tuple[bytes, AgentReport]:
        """The message of features (1, C, ny, nx) as bytes, and the report beside it, whose latency tells packing alone."""
        started = perf_counter()
        seen = self._is_seen(tick)
        content = self._content(features, codec.chooses_cells or seen)
        message = self._message(frame, content).to_bytes(codec)
        latency = AgentLatency(0.0, 0.0, (perf_counter() - started) * 1e3, monotonic())
        points, heat = (_points(frame), _square(content.scores[0])) if seen else (None, None)
        report = AgentReport(
            self.agent_id, self.kit.agent_type, len(message), frame.world_SE3_agent, frame.objects, latency, points, heat
        )
        return message, report

    def _content(self, features: Tensor, scored: bool) -> _Content:
        """Under `split: feature` the map itself, with the scores of the finest scale if they are wanted; else all scales."""
        kit = self.kit
        whole = kit.options.split == "pyramid"
        if not (whole or scored):
            return _Content((features,), ())
        levels = kit.trunk.trunk(features)
        scores = kit.trunk.scores(levels.occupancy, [kit.encoder.coverage])
        if whole:
            return _Content(levels.maps, scores)
        return _Content((features,), (F.interpolate(scores[0], size=features.shape[-2:]),))

    def _message(self, frame: AgentFrame, content: _Content) -> Message:
        kit = self.kit
        return Message(
            agent_id=self.agent_id,
            agent_type=kit.agent_type,
            base_hash=kit.base_hash,
            timestamp_ns=frame.timestamp_ns,
            world_SE3_agent=frame.world_SE3_agent_measured,
            grid=kit.grid,
            maps=tuple(level[0].float().cpu().numpy() for level in content.maps),
            scores=tuple(_square(level) for level in content.scores),
            coverage=kit.encoder.coverage,
            split=kit.options.split,
        )

    def _is_seen(self, tick: int) -> bool:
        kept = self.kit.options.keep_views
        return kept if isinstance(kept, bool) else tick in kept


class AgentHost:
    """Serves agents of one type with one network."""

    def __init__(self, kit: AgentKit, device: torch.device | str = "cpu") -> None:
        """Hold the equipment; agents are made when first asked for."""
        self.kit, self._device = kit, torch.device(device)
        kit.encoder.to(self._device)
        kit.trunk.to(self._device)
        self._agents: dict[str, Agent] = {}

    def step(self, tick: int, errands: Sequence[Errand]) -> list[tuple[bytes, AgentReport]]:
        """Let agents step.

        On a GPU they are encoded as one batch. On a CPU one by one: that takes no longer there, and a batch would change the last
        bits of a map with the number of agents in it.
        """
        size = len(errands) if self._device.type == "cuda" else 1
        batches = [errands[i : i + size] for i in range(0, len(errands), size)]
        return [stepped for batch in batches for stepped in self._step(tick, batch)]

    def _step(self, tick: int, errands: Sequence[Errand]) -> list[tuple[bytes, AgentReport]]:
        agents = [self._agents.setdefault(errand.agent_id, Agent(errand.agent_id, self.kit)) for errand in errands]
        started = perf_counter()
        frames = [agent.sense(tick) for agent in agents]
        sensed = perf_counter()
        with torch.no_grad(), self.kit.options.autocast(self._device.type):
            features = self._encode(frames)
            encoded = perf_counter()
            stepped = [
                agent.pack(tick, frame, features[i : i + 1], errand.codec)
                for i, (agent, frame, errand) in enumerate(zip(agents, frames, errands, strict=True))
            ]
        shared_ms = [(end - begin) * 1e3 / len(agents) for begin, end in ((started, sensed), (sensed, encoded))]
        return [(message, report.after(*shared_ms)) for message, report in stepped]

    def _encode(self, frames: Sequence[AgentFrame]) -> Tensor:
        inputs = self.kit.encoder.prepare(frames)
        features = self.kit.encoder(inputs if self._device.type == "cpu" else inputs.to(self._device))
        # In the order in which a receiver has them: in another, the trunk's last bits would differ on the two sides of the link.
        return features.float().contiguous()


def _points(frame: AgentFrame) -> Float32:
    return np.zeros((0, 4), np.float32) if frame.lidar is None else frame.lidar.points


def _square(scores: Tensor) -> Float32:
    """(ny, nx) of (1, 1, ny, nx)."""
    square: Float32 = scores[0, 0].cpu().numpy()
    return square
