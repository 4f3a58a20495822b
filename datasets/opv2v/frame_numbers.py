"""The numbers of frames in OPV2V's layout: times in steps of 50 ms, as the names of an agent's files spell them."""

from __future__ import annotations

STAMP_NS = 50_000_000  # stamps count simulation steps of 50 ms; every second one is recorded, hence 10 Hz
_DIGITS = 6


class FrameNumbers:
    """Gives the scenes of one scenario their numbers, in the order in which they are written."""

    def __init__(self) -> None:
        """Start before the first scene."""
        self._origin_ns: int | None = None
        self._last = -1

    def next_stamp(self, timestamp_ns: int) -> str:
        """Return the stamp of the next scene, such as "000069": its time in steps of 50 ms, and more than that of the scene before.

        Times that would take more than six digits, such as those since 1970, count from the first scene.
        """
        if self._origin_ns is None:
            self._origin_ns = 0 if 0 <= timestamp_ns < STAMP_NS * 10**_DIGITS else timestamp_ns
        self._last = max(self._last + 1, round((timestamp_ns - self._origin_ns) / STAMP_NS))
        return f"{self._last:0{_DIGITS}d}"
