"""Lines on the console about agents that join a running simulation, wait for their type, or come from outside."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from heal.agents.door.outside import SILENT
from heal.agents.joining import NO_TYPE, Join
from heal.agents.records import TickResult


class JoinNotes:
    """Prints a line when an agent joins, and when one cannot join yet."""

    def __init__(self, joins: Sequence[Join], console: Console) -> None:
        """Wait for joins."""
        self._open, self._console = list(joins), console
        self._before: set[str] = set()

    def add(self, result: TickResult) -> None:
        """Look at a tick that has been run."""
        for record in result.messages:
            join = next((one for one in self._open if one.tick <= result.tick and one.agent_type == record.agent_type), None)
            if join is not None and record.agent_id not in self._before and join.agent_id in (None, record.agent_id):
                self._open.remove(join)
                self._print(f"tick {result.tick}: agent {record.agent_id} joins with type {record.agent_type}")
            if record.outside and record.agent_id not in self._before:
                self._print(f"tick {result.tick}: agent {record.agent_id} joins from outside with type {record.agent_type}")
        for fault in result.faults:
            if fault.kind == SILENT:
                self._print(f"tick {result.tick}: agent {fault.agent_id} from outside has fallen silent")
            if self._open and fault.kind == NO_TYPE and fault.detail:
                self._print(f"tick {result.tick}: agent {fault.agent_id} waits for its type: {fault.detail}")
        self._before = {record.agent_id for record in result.messages}

    def finish(self) -> None:
        """Print the joins that have not happened."""
        for join in self._open:
            self._print(f"did not join: {join}")

    def _print(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)
