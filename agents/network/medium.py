"""A medium: what is sent waits its turn, takes its time on the air, and keeps later messages waiting, also those of later ticks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from heal.agents.network.transit import Parcel
from heal.seeding import AgentDraws


class Rate(Protocol):
    """How fast a medium is; `heal.agents.network.trace.Trace` is one that changes with time."""

    def finish_ns(self, start_ns: int, size_bytes: int) -> int:
        """When a message is through whose transmission begins at `start_ns`."""
        ...


@dataclass(frozen=True)
class ConstantRate:
    """So many Mbit (a million bits) in every second."""

    mbit_s: float

    def finish_ns(self, start_ns: int, size_bytes: int) -> int:
        """The end of the transmission, rounded up to a nanosecond."""
        return start_ns + math.ceil(size_bytes * 8e3 / self.mbit_s)


class Medium:
    """One message at a time, first come first served; the queue is bounded in time.

    Those that come at the same instant are served in an order drawn for the tick, so that nobody is always the last.
    """

    def __init__(self, rate: Rate, queue_ms: float, seed: int) -> None:
        """An idle medium.

        Args:
            rate: its speed.
            queue_ms: a message that would have to wait longer than this for its turn is dropped.
            seed: of the order among those that come at the same instant.
        """
        self._rate, self._queue_ns, self._seed = rate, round(queue_ms * 1e6), seed
        self._free_ns: int | None = None

    def cross(self, tick: int, parcels: Sequence[Parcel]) -> list[int | None]:
        """Take the messages of a tick; to be called in the order of ticks.

        Args:
            tick: which.
            parcels: the messages, with the times at which they come to this medium.

        Returns:
            When each is wholly through, in simulated nanoseconds; None where the queue was full.
        """
        through: list[int | None] = [None] * len(parcels)
        for place in self._turns(tick, parcels):
            through[place] = self._serve(parcels[place])
        return through

    @property
    def free_ns(self) -> int | None:
        """When all that it has taken is through; None if it has taken nothing yet."""
        return self._free_ns

    def clear(self) -> None:
        """Forget what is still on the air."""
        self._free_ns = None

    def _turns(self, tick: int, parcels: Sequence[Parcel]) -> list[int]:
        if len(parcels) < 2:
            return list(range(len(parcels)))
        draws = [AgentDraws(self._seed, parcel.agent_id).uniform("turn", tick) for parcel in parcels]
        return sorted(range(len(parcels)), key=lambda place: (parcels[place].sent_ns, draws[place]))

    def _serve(self, parcel: Parcel) -> int | None:
        start_ns = parcel.sent_ns if self._free_ns is None else max(parcel.sent_ns, self._free_ns)
        if start_ns - parcel.sent_ns > self._queue_ns:
            return None
        self._free_ns = self._rate.finish_ns(start_ns, parcel.size_bytes)
        return self._free_ns
