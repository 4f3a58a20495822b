"""The outside agents of a run: which of them take part, and what becomes of the messages that come through the door in a tick."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Generic, TypeVar

from heal.agents.door.gateway import Door
from heal.agents.door.intake import Awaited, OutsideMessage
from heal.agents.faults import Fault, FaultKind
from heal.agents.message_records import MessageRecord
from heal.agents.options import RunOptions
from heal.agents.pacer import Pacer
from heal.agents.tick_plan import TickPlan

Payload = TypeVar("Payload")
# The fault of an agent that takes part no more; why an agent has no message in a tick; why one is late.
SILENT: FaultKind = "agent silent"
NOTHING_CAME, TOO_LATE = "silent", "after the deadline"
# The type of an agent that claims one that the run does not know: a stranger must not choose the names in reports and metrics.
UNKNOWN_TYPE = "unknown"
# Of so many agents that have fallen silent it is known that they were there before.
_MOST_GONE = _MOST_RECENT = 64


@dataclass(frozen=True)
class OutsideTick(Generic[Payload]):
    """What has come through the door in a tick.

    Attributes:
        records: one for each message, and one for each agent that takes part and has sent none.
        posts: the messages, with the records by which the mailbox delivers them.
        faults: agents that have fallen silent, or returned.
        turned_away: number of byte strings that the door turned away, by reason.
    """

    records: tuple[MessageRecord, ...] = ()
    posts: tuple[tuple[MessageRecord, Payload], ...] = ()
    faults: tuple[Fault, ...] = ()
    turned_away: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Member:
    """An outside agent that takes part: its type, and the tick in which it last sent."""

    agent_type: str
    last_ns: int


class OutsideAgents(Generic[Payload]):
    """The outside agents of a run.

    An outside agent takes part from its first message on, until it has been silent for longer than `RunOptions.max_age_ms`. What it
    says of itself comes from its messages alone, and its messages cross no simulated link: they have crossed a real one.
    """

    def __init__(self, door: Door[Payload], options: RunOptions, pacer: Pacer | None) -> None:
        """Wait for agents.

        Args:
            door: through which they send.
            options: of the run.
            pacer: the clock of the run by the wall clock; None in simulated time.
        """
        self._door, self._options, self._pacer = door, options, pacer
        self._members: dict[str, _Member] = {}
        self._gone: dict[str, None] = {}
        # The latest ticks of a recording with their instants; a message that tells of an earlier one is stale in any case.
        self._recent: deque[tuple[int, int]] = deque(maxlen=_MOST_RECENT)

    def planned(self, plan: TickPlan) -> None:
        """Learn of a tick that has been planned: by the wall clock it begins now.

        In simulated time ticks are planned ahead of the fusion node, and one begins for outside agents when it is collected.
        """
        if self._pacer is not None:
            self._begin(plan)

    def _begin(self, plan: TickPlan) -> None:
        """Announce a tick, and let the first one wait for agents."""
        self._door.announce(plan.tick, plan.outline.timestamp_ns, tuple(plan.agent_types))
        options = self._door.options
        if plan.number == 0 and options.agents:
            self._door.wait(Awaited(monotonic() + options.first_wait_s, agents=options.agents))

    def collect(self, plan: TickPlan, deadline_ms: float, known_types: Collection[str]) -> OutsideTick[Payload]:
        """Return what has come through the door for a tick, the agents in the order of their ids.

        By the wall clock the agents that take part are waited for until the deadline of the tick, in simulated time for
        `DoorOptions.wait_ms`. A message belongs to the tick in which it is collected.

        Args:
            plan: of the tick.
            deadline_ms: after its beginning, in milliseconds of the data.
            known_types: the agent types of the run's alliance.
        """
        if self._pacer is None:
            self._begin(plan)
        taken = self._door.take(self._awaited(plan, deadline_ms))
        turned_away = Counter(taken.turned_away)
        self._note_tick(plan)
        records, posts, faults = list[MessageRecord](), list[tuple[MessageRecord, Payload]](), list[Fault]()
        for message in taken.messages:
            if message.agent_id in plan.agent_types:  # it came before the id was reserved
                turned_away["id taken"] += 1
                continue
            agent_type = message.agent_type if message.agent_type in known_types else UNKNOWN_TYPE
            faults += self._note_member(message.agent_id, _Member(agent_type, plan.outline.timestamp_ns))
            record = self._record(plan, message, agent_type, deadline_ms)
            records.append(record)
            posts.append((replace(record, tick=self._tick_of(plan, message)), message.payload))
        faults += self._part_with_silent(plan)
        heard = {record.agent_id for record in records}
        records += [_silent(plan, name, member) for name, member in sorted(self._members.items()) if name not in heard]
        return OutsideTick(tuple(records), tuple(posts), tuple(faults), turned_away)

    def close(self) -> None:
        """Close the door."""
        self._door.close()

    def _note_tick(self, plan: TickPlan) -> None:
        """Note the instant of a tick; if time does not go on from the tick before, another recording begins."""
        now_ns = plan.outline.timestamp_ns
        if self._recent and now_ns <= self._recent[-1][1]:
            self._recent.clear()
        self._recent.append((plan.tick, now_ns))

    def _awaited(self, plan: TickPlan, deadline_ms: float) -> Awaited:
        """Return what a tick waits for: a message of this tick, rather than a late one, of each agent that takes part."""
        if self._pacer is None:
            until_s = monotonic() + self._door.options.wait_ms / 1e3
        else:
            until_s = plan.began_s + self._pacer.wall_s(deadline_ms)
        return Awaited(until_s, self._before_ns(plan), frozenset(self._members) - set(plan.agent_types))

    def _before_ns(self, plan: TickPlan) -> int | None:
        """Return the instant of the tick before in the same recording; None for the first."""
        before_ns = self._recent[-1][1] if self._recent else None
        return before_ns if before_ns is not None and before_ns < plan.outline.timestamp_ns else None

    def _record(self, plan: TickPlan, message: OutsideMessage[Payload], agent_type: str, deadline_ms: float) -> MessageRecord:
        """Record a message: in time until a fusion node rejects it, or late if it tells of an earlier tick or came too late."""
        tick_ns = plan.outline.timestamp_ns
        came_ms = 0.0 if self._pacer is None else max(0.0, self._pacer.data_ms(message.arrived_s - plan.began_s))
        is_late = came_ms > deadline_ms or self._tick_of(plan, message) != plan.tick
        arrival_ns = tick_ns + round(came_ms * 1e6)
        record = MessageRecord(plan.tick, message.agent_id, agent_type, False, message.size_bytes, arrival_ns, arrival_ns, "used")
        record = replace(record, outside=True)
        return replace(record, status="late", reason=TOO_LATE) if is_late else record

    def _tick_of(self, plan: TickPlan, message: OutsideMessage[Payload]) -> int:
        """Return the tick that a message tells of by its time: the first recent one whose instant is not before that.

        A fusion node gives an older map less weight. A time that is later than this tick's is the fusion node's to judge.
        """
        return next((tick for tick, now_ns in self._recent if message.timestamp_ns <= now_ns), plan.tick)

    def _note_member(self, agent_id: str, member: _Member) -> list[Fault]:
        """Let an agent take part that has sent; return that it has returned, if it had fallen silent before."""
        self._members[agent_id] = member
        if agent_id not in self._gone:
            return []
        del self._gone[agent_id]
        return [Fault("agent rejoined", agent_id)]

    def _part_with_silent(self, plan: TickPlan) -> list[Fault]:
        """Return the agents that take part no more from this tick on, as they have been silent for too long."""
        now_ns, limit_ms = plan.outline.timestamp_ns, self._options.max_age_ms
        silent = [name for name, member in self._members.items() if abs(now_ns - member.last_ns) / 1e6 > limit_ms]
        for name in silent:
            del self._members[name]
            self._gone[name] = None
        while len(self._gone) > _MOST_GONE:
            del self._gone[next(iter(self._gone))]
        return [Fault(SILENT, name) for name in silent]


def _silent(plan: TickPlan, agent_id: str, member: _Member) -> MessageRecord:
    """Return the record of an agent that has sent nothing in a tick."""
    tick_ns = plan.outline.timestamp_ns
    return MessageRecord(plan.tick, agent_id, member.agent_type, False, 0, tick_ns, None, "not sent", NOTHING_CAME, outside=True)
