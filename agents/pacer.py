"""The clock of a run by the wall clock: every tick begins at its own time, and a tick that is overtaken by the next is dropped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, pairwise

# Data are taken to come at this rate where their instants do not tell.
NOMINAL_HZ = 10.0


class Pacer:
    """Lets every tick begin at its own time by the wall clock.

    All times in milliseconds are those of the data: at a rate of 5 Hz, 1 ms of the data takes 2 ms by the wall clock.
    """

    MAX_STEP_S = 1.0

    def __init__(self, rate_hz: float = NOMINAL_HZ) -> None:
        """Make a clock that starts when its first tick begins.

        Args:
            rate_hz: how many ticks of data at 10 Hz begin in one second.
        """
        self._stretch = NOMINAL_HZ / rate_hz
        self._start_s: float | None = None
        self._last_ns: int | None = None
        self._offset_s = self._begun_s = 0.0

    def due(
        self, ticks: Iterable[int], timestamp_ns: Callable[[int], int], is_kept: Callable[[int], bool] = lambda _: False
    ) -> Iterator[tuple[int, int]]:
        """Yield ticks, each with the number of those that were dropped before it.

        A tick is dropped if the next one is due already, so that sensors are read late but never out of date. The first and the
        last tick are never dropped.

        Args:
            ticks: the ticks in their order.
            timestamp_ns: the instant of a tick. Between two recordings the time jumps; such a step counts as a tenth of a second.
            is_kept: whether a tick is run however late it is.
        """
        timed = ((tick, self._next_offset(timestamp_ns(tick))) for tick in ticks)
        dropped = 0
        for timed_tick, after in pairwise(chain(timed, [None])):
            assert timed_tick is not None, "only the last one has nothing after it"
            if after is not None and self._has_come(after[1]) and not is_kept(timed_tick[0]):
                dropped += 1
                continue
            tick, self._begun_s = timed_tick
            yield tick, dropped
            dropped = 0

    def start(self) -> None:
        """Set the clock so that the tick that was yielded last begins now: before the first tick everything is made ready."""
        self._start_s = time.monotonic() - self._begun_s

    def wait(self) -> float:
        """Sleep until the tick that was yielded last is due, and return how late it is, in milliseconds."""
        if self._start_s is None:
            self.start()
        due_s = (self._start_s or 0.0) + self._begun_s
        time.sleep(max(0.0, due_s - time.monotonic()))
        return self.data_ms(time.monotonic() - due_s)

    def data_ms(self, wall_s: float) -> float:
        """Return a time by the wall clock, in seconds, as milliseconds of the data."""
        return wall_s * 1e3 / self._stretch

    def wall_s(self, data_ms: float) -> float:
        """Return milliseconds of the data as a time by the wall clock, in seconds."""
        return data_ms * self._stretch / 1e3

    def _has_come(self, offset_s: float) -> bool:
        return self._start_s is not None and time.monotonic() >= self._start_s + offset_s

    def _next_offset(self, timestamp_ns: int) -> float:
        """Return when a tick is due after the first one, in seconds by the wall clock."""
        if self._last_ns is not None:
            step_s = (timestamp_ns - self._last_ns) / 1e9
            self._offset_s += self._stretch * (step_s if 0 <= step_s <= self.MAX_STEP_S else 1 / NOMINAL_HZ)
        self._last_ns = timestamp_ns
        return self._offset_s
