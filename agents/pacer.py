"""The clock of a run by the wall clock: every tick begins at its own time."""

from __future__ import annotations

import time


class Pacer:
    """Lets every tick begin at its own time by the wall clock."""

    MAX_STEP_S = 1.0
    NOMINAL_STEP_S = 0.1

    def __init__(self) -> None:
        """Make a clock that starts with the second tick."""
        self._last_ns: int | None = None
        self._due_s: float | None = None

    def wait(self, timestamp_ns: int) -> float:
        """Sleep until a tick is due, and return how late the tick is, in milliseconds.

        The clock starts with the second tick, because networks are loaded and towns are built during the first one. Between two
        recordings the time jumps; such a step counts as a tenth of a second.
        """
        step_s = 0.0 if self._last_ns is None else (timestamp_ns - self._last_ns) / 1e9
        first, self._last_ns = self._last_ns is None, timestamp_ns
        if first:
            return 0.0
        if self._due_s is None:
            self._due_s = time.monotonic()
            return 0.0
        self._due_s += step_s if 0 <= step_s <= self.MAX_STEP_S else self.NOMINAL_STEP_S
        time.sleep(max(0.0, self._due_s - time.monotonic()))
        return (time.monotonic() - self._due_s) * 1e3
