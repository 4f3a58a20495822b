"""The same run without processes: one tick after the other, with the agents away that were away in the run on Ray."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from heal.agent_types import TypesOf
from heal.agents.local_runtime import LocalRuntime
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from tests.agents.tiny_run import TinyAlliance, assert_same_results
from tests.long.accounts.ledger import ABSENCES, USEFUL_TICKS
from tests.long.accounts.troubles import TroubledMailbox, TroubledNetwork, TroubledSource, damage_bytes


class Replica:
    """Repeats every tick of a run in this process, and compares.

    Attributes:
        equal: number of ticks that were equal to the last bit.
        skipped: number of ticks that were not compared, because the fusion node had broken and lost the maps that it held.
        different: what was different, by tick.
    """

    def __init__(self, alliance: TinyAlliance, source: TroubledSource, types_of: TypesOf, options: RunOptions) -> None:
        """Open the replica of a run with these arguments; the source is its own, as it is told which agents are down."""
        self.equal = self.skipped = 0
        self.different: dict[int, str] = {}
        self._source, self._ticks = source, deque[int]()
        network = TroubledNetwork(source.troubles)
        self._runtime = LocalRuntime(alliance, source, types_of, network, options, tolerant=True)
        self._runtime._coordinator._mailbox = TroubledMailbox(options, source.troubles, damage_bytes)
        self._results = self._runtime.run(self._due())
        self._forgetful, self._sequence = 0, ""

    def add(self, result: TickResult) -> None:
        """Repeat a tick and compare it, if the fusion nodes of both runs can hold the same maps."""
        down = [record.agent_id for record in result.messages if record.status == "not sent" and record.reason in ABSENCES]
        self._source.down.clear()
        self._source.down.update((result.tick, agent_id) for agent_id in down)
        self._ticks.append(result.tick)
        expected = next(self._results)
        sequence = result.scene_id.rpartition("/")[0]
        if result.latency is None:
            self._forgetful = USEFUL_TICKS + 1
        elif sequence != self._sequence:
            self._forgetful = 0
        self._sequence = sequence
        if self._forgetful:
            self._forgetful -= 1
            self.skipped += 1
        else:
            self._compare(result, expected, set(down))

    def problems(self) -> Iterator[str]:
        """Yield the ticks that were different."""
        yield from (f"tick {tick} differs from a run in one process: {what}" for tick, what in self.different.items())

    def _compare(self, result: TickResult, expected: TickResult, down: set[str]) -> None:
        # An agent that is down has another reason here: its sensors cannot be read.
        pair = [_without(one, down) for one in (result, expected)]
        try:
            assert_same_results(pair[:1], pair[1:])
        except AssertionError as error:
            self.different[result.tick] = str(error).partition("\n")[0] or "other boxes"
        else:
            self.equal += 1

    def _due(self) -> Iterator[int]:
        while self._ticks:
            yield self._ticks.popleft()

    def close(self) -> None:
        """Close the run."""
        self._runtime.close()


def _without(result: TickResult, down: set[str]) -> TickResult:
    """Return a tick without the records of the agents that were down."""
    return replace(result, messages=tuple(record for record in result.messages if record.agent_id not in down))
