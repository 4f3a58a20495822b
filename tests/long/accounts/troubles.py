"""What goes wrong with messages and sensors in a long run: drawn from a seed, so that two runs have the same troubles."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar, get_args

import numpy as np

from heal.agents.mailbox import Mailbox
from heal.agents.message_records import MessageRecord
from heal.agents.network.transit import Transit, Transmission
from heal.agents.options import RunOptions
from heal.agents.records import FusionRequest
from heal.errors import UserError
from heal.seeding import keyed_generator
from heal.types import AgentFrame, ObjectLabels, SceneOutline, SensorChoice
from tests.agents.tiny_run import TICK_NS, TinySource

Payload = TypeVar("Payload")
Trouble = Literal["lost", "delayed", "damaged", "duplicated", "clock wrong", "far away", "tilted", "unreadable"]
TROUBLES: tuple[Trouble, ...] = get_args(Trouble)
# Applies a change of bytes to a message in a runtime's own form.
Damage = Callable[[Payload, Callable[[bytes], bytes]], Payload]
TICK_MS = TICK_NS / 1e6
FAR_M = 5_000.0


@dataclass(frozen=True)
class Troubles:
    """The troubles of a run: at most one for each agent and tick.

    Attributes:
        seed: of all draws.
        share: of all agents' ticks, how many have a trouble.
    """

    seed: int
    share: float

    def of(self, tick: int, agent_id: str) -> Trouble | None:
        """Return the trouble of an agent in a tick; None for most."""
        draw = float(self._generator("trouble", tick, agent_id).random()) / max(self.share, 1e-9)
        return TROUBLES[int(draw * len(TROUBLES))] if draw < 1 else None

    def delay_ns(self, tick: int, agent_id: str) -> int:
        """Return how long a delayed message is under way: up to eight ticks, of which the last three are too long for any use."""
        return round(float(self._generator("delay", tick, agent_id).uniform(0.2, 8)) * TICK_NS)

    def clock_error_ns(self, tick: int, agent_id: str) -> int:
        """Return the error of an agent's clock in a tick: up to a second, ahead or behind; mostly 0."""
        if self.of(tick, agent_id) != "clock wrong":
            return 0
        return int(self._generator("clock", tick, agent_id).integers(-1_000_000_000, 1_000_000_000))

    def damaged(self, message: bytes, tick: int, agent_id: str) -> bytes:
        """Return the bytes of a message after an accident: cut, replaced by noise, or with some bits flipped."""
        draws = self._generator("damage", tick, agent_id)
        kind = draws.integers(3)
        if kind == 0:
            return message[: draws.integers(len(message))]
        if kind == 1:
            return draws.bytes(draws.integers(1, 2 * len(message)))
        changed = bytearray(message)
        for place in draws.integers(len(message), size=4):
            changed[place] ^= 1 << int(draws.integers(8))
        return bytes(changed)

    def order(self, tick: int, count: int) -> list[int]:
        """Return the order in which a tick's messages are read."""
        return [int(place) for place in self._generator("order", tick, "").permutation(count)]

    def _generator(self, purpose: str, tick: int, agent_id: str) -> np.random.Generator:
        return keyed_generator(self.seed, purpose, agent_id, tick)


@dataclass(frozen=True)
class TroubledSource:
    """Scenes whose agents come and go from recording to recording, and whose sensors, clocks and poses fail at times.

    Attributes:
        inner: the scenes without troubles.
        troubles: of the run.
        down: agents and ticks of which nothing can be sensed, beside those in trouble.
    """

    inner: TinySource
    troubles: Troubles
    down: set[tuple[int, str]] = field(default_factory=set)

    def __len__(self) -> int:  # noqa: D105
        return len(self.inner)

    def outline(self, index: int) -> SceneOutline:
        return self.inner.outline(index)

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        trouble, senses = self.troubles.of(index, agent_id), choice is None or choice.lidar
        if senses and ((index, agent_id) in self.down or trouble == "unreadable"):
            raise UserError(f"the sensors of {agent_id} cannot be read")
        frame = self.inner.agent_frame(index, agent_id, choice)
        pose = frame.world_SE3_agent_measured.copy()
        if trouble == "far away":
            pose[0, 3] += FAR_M
        elif trouble == "tilted":
            pose[:3, 1:3] = pose[:3, [2, 1]] * (1, -1)
        time_ns = frame.timestamp_ns + self.troubles.clock_error_ns(index, agent_id)
        return replace(frame, timestamp_ns=max(time_ns, 0), world_SE3_agent_measured=pose)

    def scene_objects(self, index: int) -> ObjectLabels | None:
        return self.inner.scene_objects(index)


@dataclass(frozen=True)
class TroubledNetwork:
    """A network that loses and delays messages, and delivers the others at once."""

    troubles: Troubles

    def send(self, tick: int, transmissions: Sequence[Transmission], now_ns: int | None = None) -> list[Transit]:
        return [self._transit(transmission, now_ns or 0) for transmission in transmissions]

    def _transit(self, transmission: Transmission, now_ns: int) -> Transit:
        tick, agent_id = now_ns // TICK_NS, transmission.agent_id
        trouble = self.troubles.of(tick, agent_id)
        if trouble == "lost":
            return Transit(None, "lost in trouble")
        delay_ns = self.troubles.delay_ns(tick, agent_id) if trouble == "delayed" else 0
        return Transit(transmission.sent_ns + delay_ns)


class TroubledMailbox(Mailbox[Payload], Generic[Payload]):
    """A mailbox that damages and doubles messages, and hands them out in any order."""

    def __init__(
        self, options: RunOptions, troubles: Troubles, damage: Callable[[Payload, Callable[[bytes], bytes]], Payload]
    ) -> None:
        """Make an empty mailbox; `damage` damages a message in the runtime's own form."""
        super().__init__(options)
        self._troubles, self._damage = troubles, damage

    def collect(self, request: FusionRequest, deadline_ms: float) -> list[tuple[MessageRecord, Payload]]:
        arrived = [pair for one in super().collect(request, deadline_ms) for pair in self._copies(*one)]
        return [arrived[place] for place in self._troubles.order(request.tick, len(arrived))]

    def _copies(self, record: MessageRecord, payload: Payload) -> list[tuple[MessageRecord, Payload]]:
        tick, agent_id = record.tick, record.agent_id
        trouble = self._troubles.of(tick, agent_id)
        if trouble == "damaged":
            return [(record, self._damage(payload, lambda message: self._troubles.damaged(message, tick, agent_id)))]
        return [(record, payload)] * (2 if trouble == "duplicated" else 1)


def scenes(agent_ids: Sequence[str], ticks: int, seed: int, ticks_each: int = 80) -> TinySource:
    """Return recordings of some of the agents each, the ego among them, that follow each other for so many ticks."""
    draws = random.Random(seed)
    ego_id, *others = agent_ids
    scenarios = []
    for _ in range(-(-ticks // ticks_each)):
        there = draws.sample(others, draws.randint(max(1, len(others) - 2), len(others)))
        scenarios.append((ego_id, *there))
    return TinySource(tuple(scenarios), ticks_each)


def damage_bytes(message: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Apply a change to a message of `LocalRuntime`."""
    return change(message)


def damage_object(reference: Any, change: Callable[[bytes], bytes]) -> Any:
    """Apply a change to a message in Ray's object store."""
    import ray

    return ray.put(np.frombuffer(change(ray.get(reference).tobytes()), np.uint8))
