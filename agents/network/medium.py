"""A medium with a limited rate: messages wait in a queue for their transmission, and delay later messages, also of later ticks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from heal.agents.network.transit import Transmission
from heal.seeding import AgentDraws


class Rate(Protocol):
    """The rate of a medium: constant (`ConstantRate`) or changing with time (`heal.agents.network.trace.Trace`)."""

    def finish_ns(self, start_ns: int, size_bytes: int) -> int:
        """Return the time in ns at which a transmission that begins at `start_ns` ends."""
        ...


@dataclass(frozen=True)
class ConstantRate:
    """A rate of `mbit_s` million bits per second."""

    mbit_s: float

    def finish_ns(self, start_ns: int, size_bytes: int) -> int:
        """Return the time at which the transmission ends, rounded up to a nanosecond."""
        return start_ns + math.ceil(size_bytes * 8e3 / self.mbit_s)


class Medium:
    """A medium that transmits one message at a time, first come first served, with a queue that is bounded in time.

    Messages that come at the same instant are transmitted in an order drawn for each tick, so that no agent is always the last.
    """

    def __init__(self, rate: Rate, queue_ms: float, seed: int) -> None:
        """Make an idle medium.

        Args:
            rate: of the medium.
            queue_ms: a message that would have to wait longer than this for its transmission is dropped.
            seed: of the order of messages that come at the same instant.
        """
        self._rate, self._queue_ns, self._seed = rate, round(queue_ms * 1e6), seed
        self._free_ns: int | None = None

    def transmit(self, tick: int, transmissions: Sequence[Transmission]) -> list[int | None]:
        """Transmit the messages of a tick; to be called in the order of ticks.

        Args:
            tick: number of the tick; the order of messages that come at the same instant is drawn for it.
            transmissions: the messages, with the times at which they come to this medium.

        Returns:
            For each message the simulated time in ns at which its transmission ends; None if the queue was full.
        """
        finished_ns: list[int | None] = [None] * len(transmissions)
        for place in self._order(tick, transmissions):
            finished_ns[place] = self._transmit_one(transmissions[place])
        return finished_ns

    @property
    def free_ns(self) -> int | None:
        """The time in ns at which all accepted messages are transmitted; None before the first message."""
        return self._free_ns

    def clear(self) -> None:
        """Forget all accepted messages: the medium is idle."""
        self._free_ns = None

    def _order(self, tick: int, transmissions: Sequence[Transmission]) -> list[int]:
        """Return the indices of the messages in the order of their transmission."""
        if len(transmissions) < 2:
            return list(range(len(transmissions)))
        draws = [AgentDraws(self._seed, transmission.agent_id).uniform("turn", tick) for transmission in transmissions]
        return sorted(range(len(transmissions)), key=lambda place: (transmissions[place].sent_ns, draws[place]))

    def _transmit_one(self, transmission: Transmission) -> int | None:
        start_ns = transmission.sent_ns if self._free_ns is None else max(transmission.sent_ns, self._free_ns)
        if start_ns - transmission.sent_ns > self._queue_ns:
            return None
        self._free_ns = self._rate.finish_ns(start_ns, transmission.size_bytes)
        return self._free_ns
