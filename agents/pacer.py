"""By the wall clock, ticks begin at their own times."""

from __future__ import annotations

import time


class Pacer:
    """Lets ticks begin at their own times by the wall clock."""

    MAX_STEP_S = 1.0
    NOMINAL_STEP_S = 0.1

    def __init__(self) -> None:
        """Nothing has begun yet."""
        self._last_ns: int | None = None
        self._due_s: float | None = None

    def wait(self, timestamp_ns: int) -> float:
        """Sleep until a tick is due; returns how late it is, in milliseconds.

        The clock starts with the second tick, as during the first one networks are loaded and towns are built. Where recordings
        follow each other their times jump; such a step counts as a tenth of a second.
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
