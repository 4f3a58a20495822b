"""What a live view is written with: a rerun recording that knows the time, the colours of agents, and what is no longer there."""

from __future__ import annotations

from typing import Any

from heal.agents.records import TickResult
from heal.tools.pictures.bev import ERA_STARTS_S, agent_color

TICK, TIME = "tick", "time"
Path = tuple[str, ...]


class TickLog:
    """Writes the ticks of a run into a recording, one after the other.

    What is put at a path stays there until something else is. `end` therefore removes what stood in the tick before and was not put
    again: agents leave, links fall silent.
    """

    def __init__(self, recording: Any) -> None:
        """Write to a `rerun.RecordingStream`."""
        self.recording = recording
        self._colors: dict[str, str] = {}
        self._before: set[Path] = set()
        self._now: set[Path] = set()

    def begin(self, result: TickResult) -> None:
        """Set both clocks: the tick's number, and its time since the start, or the date where the start is that of an era."""
        self._before, self._now = self._now, set()
        self.recording.set_time(TICK, sequence=result.tick)
        seconds = result.timestamp_ns / 1e9
        if seconds < ERA_STARTS_S:
            self.recording.set_time(TIME, duration=seconds)
        else:
            self.recording.set_time(TIME, timestamp=seconds)

    def put(self, path: Path, *things: Any) -> None:
        """Show things at a path until they are replaced, or the path is left out of a tick."""
        self._now.add(path)
        self.recording.log(list(path), *things)

    def note(self, path: Path, *things: Any) -> None:
        """Add to a series or a list; nothing is removed from those."""
        self.recording.log(list(path), *things)

    def fix(self, path: Path, *things: Any) -> None:
        """Say something of a path that holds for all times."""
        self.recording.log(list(path), *things, static=True)

    def end(self) -> None:
        """Remove what was not put again."""
        import rerun as rr

        for path in self._before - self._now:
            self.recording.log(list(path), rr.Clear(recursive=False))

    def color(self, agent_id: str) -> str:
        """An agent's colour: the next free one when it is first seen, its own from then on."""
        return self._colors.setdefault(agent_id, agent_color(len(self._colors)))


def rgb(color: str) -> tuple[int, int, int]:
    """The three bytes of a colour such as "#30363d"."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue
