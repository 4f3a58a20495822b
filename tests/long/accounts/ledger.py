"""The accounts of a long run: every message of every agent and tick ends in exactly one way, and every trouble has a cause."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from heal.agents.faults import FaultKind
from heal.agents.message_records import MessageRecord
from heal.agents.records import BUSY, NODE_AWAY, OUT_OF_RANGE, UNFINISHED, HeldMap, Rejection, Sender, TickResult
from tests.long.accounts.troubles import TICK_MS, Troubles

BROKEN: tuple[FaultKind, ...] = ("agent crashed", "agent hung", "fusion node crashed", "fusion node hung")
# Why an agent or a fusion node that has broken takes no part.
ABSENCES = ("agent crashed", "agent hung", "agent restarting", "agent given up", NODE_AWAY)
# By the wall clock, what a busy machine costs.
SLOWNESS = (UNFINISHED, BUSY, "after the deadline")
# A message that has come twice has a second copy, and that copy is turned down.
OF_COPIES = ("duplicate", "superseded")
FUSED, ON_ITS_WAY, THEN_HELD = "fused", "on its way at the end", "then fused as an older map"
# For so many ticks a message can be of use: `RunOptions.max_age_ms`.
USEFUL_TICKS = 5


@dataclass
class Ledger:
    """The ends of all messages, and what does not add up.

    Attributes:
        agents_of: returns the agents that take part in a tick.
        ego_id: the ego.
        troubles: of the run.
        keeps_late: whether a late message can be of use in a later tick (`RunOptions.late`).
        hang_ticks: by the wall clock, so many ticks later it is known what has become of an agent that does not answer; 0 in
            simulated time.
        ends: how many messages have ended in which way.
        copies: second copies of messages by the reason of their rejection.
        faults: how many processes have broken and returned, by kind.
        problems: whatever does not add up, in words.
        ticks: number of ticks.
    """

    agents_of: Callable[[int], Collection[str]]
    ego_id: str
    troubles: Troubles
    keeps_late: bool = True
    hang_ticks: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    copies: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    ticks: int = 0
    _open: dict[Sender, MessageRecord] = field(default_factory=dict)
    _distant: deque[Sender] = field(default_factory=lambda: deque(maxlen=1000))
    _fused: deque[Sender] = field(default_factory=lambda: deque(maxlen=1000))
    _next_tick: int = 0

    def add(self, result: TickResult) -> None:
        """Enter a tick."""
        self.ticks += 1
        self.faults.update(fault.kind for fault in result.faults)
        self.problems += [f"tick {result.tick}: {problem}" for problem in self._enter(result)]
        self._next_tick = result.tick + 1

    def close(self) -> None:
        """Enter the end of the run: only messages of the last ticks may still be on their way."""
        for (agent_id, tick), record in self._open.items():
            ticks = USEFUL_TICKS + 1 + (self.hang_ticks if record.reason == UNFINISHED else 0)
            if tick < self._next_tick - ticks:
                self.problems.append(f"the end of the message of {agent_id} in tick {tick} is not known: {record.explanation}")
            else:
                self.ends[ON_ITS_WAY] += 1
        self._open.clear()

    @property
    def messages(self) -> int:
        """The number of messages whose end is known."""
        return sum(self.ends.values())

    def _enter(self, result: TickResult) -> Iterator[str]:
        """Enter a tick, and yield what does not add up."""
        if result.tick != self._next_tick + result.dropped:
            yield f"expected tick {self._next_tick} after {result.dropped} dropped ones"
        found, expected = sorted(record.agent_id for record in result.messages), sorted(self.agents_of(result.tick))
        if found != expected:
            yield f"messages of {found}, expected are {expected}"
        for record in result.messages:
            yield from self._enter_record(record)
        for rejection in result.late_rejections:
            yield from self._enter_rejection(rejection)
        for held in result.held:
            yield from self._enter_held(result.tick, held)

    def _enter_record(self, record: MessageRecord) -> Iterator[str]:
        sender = record.agent_id, record.tick
        if record.status == "used":
            self.ends[FUSED] += 1
            self._fused.append(sender)
            return
        if record.status == "late" and self.keeps_late:
            self._open[sender] = record
        else:
            self.ends[record.kind] += 1
        if record.reason == OUT_OF_RANGE:
            self._distant.append(sender)
        if not record.reason:
            yield f"the message of {record.agent_id} is {record.status} without a reason"
        if not self._has_cause(record):
            yield f"the message of {record.agent_id} is {record.kind} without a cause: {record.explanation}"

    def _has_cause(self, record: MessageRecord) -> bool:
        """Return whether something has gone wrong that can cost a message: a process has broken, or there was a trouble."""
        if record.reason in ABSENCES or self.troubles.of(record.tick, record.agent_id) is not None:
            return True
        if self.hang_ticks and record.reason in SLOWNESS:
            return True
        return record.reason == OUT_OF_RANGE and self.troubles.of(record.tick, self.ego_id) == "far away"

    def _enter_rejection(self, rejection: Rejection) -> Iterator[str]:
        sender = rejection.agent_id, rejection.tick
        if sender in self._open:
            del self._open[sender]
            self.ends[f"late: {rejection.reason}"] += 1
        elif rejection.reason in OF_COPIES and self.troubles.of(rejection.tick, rejection.agent_id) == "duplicated":
            self.copies[rejection.reason] += 1
        else:
            yield f"a message of {sender} that had ended before is rejected: {rejection.reason}, {rejection.detail}"

    def _enter_held(self, tick: int, held: HeldMap) -> Iterator[str]:
        """Find the message of a held map by its age, which is counted from the time that the sender's clock showed."""
        known = *self._open, *self._distant, *self._fused
        candidates = [sender for sender in known if sender[0] == held.agent_id and sender[1] < tick]
        for sender in candidates:
            if abs((tick - sender[1]) * TICK_MS - self.troubles.clock_error_ns(sender[1], sender[0]) / 1e6 - held.age_ms) < 1e-3:
                break
        else:
            yield f"the map of {held.agent_id} that is {held.age_ms} ms old is of no message that has arrived"
            return
        if sender in self._open:
            del self._open[sender]
            self.ends[f"late, {THEN_HELD}"] += 1
        elif sender in self._distant:
            self._distant.remove(sender)
            self.ends[OUT_OF_RANGE] -= 1
            self.ends[f"{OUT_OF_RANGE}, {THEN_HELD}"] += 1
        else:
            return
        self._fused.append(sender)
