"""Writes ticks into a rerun recording: sets the time, gives each agent a colour, and removes what a tick no longer shows."""

from __future__ import annotations

from typing import Any

from heal.tools.pictures.colors import agent_color
from heal.tools.pictures.picture import EPOCH_TIMES_FROM_S

TICK, TIME = "tick", "time"
EntityPath = tuple[str, ...]


class TickLog:
    """Writes the ticks of a run into a recording, one after the other.

    Rerun shows a thing at its path until another thing replaces it. `end` therefore removes the things of the tick before that the
    current tick has not shown again, such as those of an agent that has left.
    """

    def __init__(self, recording: Any) -> None:
        """Start a log that writes to a `rerun.RecordingStream`."""
        self.recording = recording
        self._colors: dict[str, str] = {}
        self._before: set[EntityPath] = set()
        self._now: set[EntityPath] = set()

    def begin(self, tick: int, timestamp_ns: int) -> None:
        """Start a tick: set its number and its time, which is a date if timestamps count from an epoch, else a duration."""
        self._before, self._now = self._now, set()
        self.recording.set_time(TICK, sequence=tick)
        seconds = timestamp_ns / 1e9
        if seconds < EPOCH_TIMES_FROM_S:
            self.recording.set_time(TIME, duration=seconds)
        else:
            self.recording.set_time(TIME, timestamp=seconds)

    def show(self, path: EntityPath, *things: Any) -> None:
        """Show things at a path from this tick on, until a tick replaces them or leaves the path out."""
        self._now.add(path)
        self.recording.log(list(path), *things)

    def append(self, path: EntityPath, *things: Any) -> None:
        """Append to a series or a list of messages; `end` removes nothing from either."""
        self.recording.log(list(path), *things)

    def set_static(self, path: EntityPath, *things: Any) -> None:
        """Set properties of a path for all ticks, such as the colour of a series."""
        self.recording.log(list(path), *things, static=True)

    def end(self) -> None:
        """Finish a tick: remove the things of the tick before that this tick has not shown."""
        import rerun as rr

        for path in self._before - self._now:
            self.recording.log(list(path), rr.Clear(recursive=False))

    def color(self, agent_id: str) -> str:
        """Return an agent's colour, "#rrggbb"; an agent gets the next colour when it is first seen and keeps it."""
        return self._colors.setdefault(agent_id, agent_color(len(self._colors)))
