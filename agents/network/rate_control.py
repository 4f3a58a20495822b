"""Rate control: every sender fits its messages to what its medium carries, from what it hears of it, with no one to tell them."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from heal.agents.network.transit import QUEUE_FULL, Transit

FEEDBACK_TICKS = 3
"""What became of a message is known so many ticks later; runs that encode some ticks ahead agree with those that do not."""

FLOOR_BYTES = 2_000
"""No budget is smaller."""

START_BYTES = 4 * FLOOR_BYTES
"""Where a sender that has had no limit starts over when it meets one: so little that many such senders fit, and it grows fast."""

GOAL = 0.8
"""The share of the time allowed that all messages together are to take."""

GAIN = 0.8
"""How much of the way to the goal one step goes; a little less than all of it, as the others step at other times."""

FAIRNESS, COMMON_BYTES = 0.06, 32_000
"""A step also goes so much of the way (of the logarithm) to one size for all. It is the others' steps that keep the sum."""

LEAST_STEP, MOST_STEP = 0.25, 4.0
"""A step's bounds. How long a great overload will last is not known yet when its feedback is due."""

CEILING_MARGIN, CEILING_GROWTH = 0.9, 1.02
"""Below what a queue was found to hold, and how fast that is forgotten."""

LINK_MEMORY = 1 / 8
"""Weight of the newest delay in the mean delay of a link."""

LONGEST_PERIOD_NS = 1_000_000_000


@dataclass
class _Sender:
    """What is known of one sender.

    Attributes:
        budget: bytes; None while there is no limit.
        settled: from this tick on its messages were made for the budget.
        tick: of the newest message.
        sent_ns: when that was sent.
        period_ms: between two messages.
        link_ms: mean delay of its link, without the media.
        ceiling_ms: no more than this fits into the queue of its medium.
        decided: ticks whose observation changed the budget, and the budgets.
    """

    period_ms: float
    budget: int | None = None
    settled: int = 0
    tick: int = -1
    sent_ns: int | None = None
    link_ms: float = 0.0
    ceiling_ms: float = math.inf
    decided: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=64))


class RateControl:
    """Keeps a budget in bytes for every sender, such that what is sent arrives by a deadline.

    Each sender goes by how long its medium is busy with the messages of a tick, which all who share it hear alike, and multiplies
    its budget accordingly, once in the time that feedback takes. Added to that is a small pull to one size for all: the busy time
    corrects the sum, the pull the differences, so that shares become equal (the idea of LIMERIC, the adaptive control in ETSI TS
    102 687, here on a logarithmic scale so that it need not be tuned to the number of senders). Delay and losses of the link itself
    are not reacted to, as smaller messages would not mend them; the delay is taken off the time allowed.
    """

    def __init__(self, deadline_ms: float) -> None:
        """Nobody has a limit yet.

        Args:
            deadline_ms: messages are to arrive this long after they are sent.
        """
        self._deadline_ms = deadline_ms
        self._senders: dict[str, _Sender] = {}

    def budget_bytes(self, tick_number: int, agent_id: str) -> int | None:
        """How long a message may be, by what was observed up to `FEEDBACK_TICKS` earlier; None for no limit.

        Args:
            tick_number: counts the ticks of the run from 0.
            agent_id: the sender.
        """
        sender = self._senders.get(agent_id)
        decided = () if sender is None else tuple(sender.decided)
        return next((budget for tick, budget in reversed(decided) if tick <= tick_number - FEEDBACK_TICKS), None)

    def observe(self, tick_number: int, agent_id: str, size_bytes: int, transit: Transit, sent_ns: int) -> None:
        """Learn what became of a message.

        Args:
            tick_number: of the tick in which it was sent; for each sender in their order, what comes after a later one is ignored.
            agent_id: the sender.
            size_bytes: its length.
            transit: what became of it. Where it does not say what the sender heard, the whole delay is put down to the medium.
            sent_ns: when it was sent.
        """
        sender = self._senders.setdefault(agent_id, _Sender(self._deadline_ms))
        if tick_number < sender.tick:
            return
        _note(sender, tick_number, transit, sent_ns)
        busy_ms, crowded = _busy_ms(transit, sent_ns), _crowded(transit)
        if tick_number < sender.settled or (busy_ms is None and not crowded):
            return
        self._step(sender, size_bytes, math.inf if busy_ms is None else busy_ms, crowded)

    def _step(self, sender: _Sender, size_bytes: int, busy_ms: float, crowded: bool) -> None:
        """Change a budget, if it has to be."""
        allowed_ms = self._allowed_ms(sender, busy_ms, crowded)
        if sender.budget is None:
            if busy_ms <= allowed_ms and not crowded:
                return
            budget = float(min(START_BYTES, size_bytes))
        else:
            to_goal = GOAL * allowed_ms / max(busy_ms, 1e-9)
            step = min(MOST_STEP, max(LEAST_STEP, to_goal)) ** GAIN
            budget = sender.budget * step * (COMMON_BYTES / sender.budget) ** FAIRNESS
            if step > 1:
                # A message that does not fill its budget tells nothing of what would happen if it did.
                budget = min(budget, max(sender.budget, 2 * size_bytes))
        sender.budget = max(FLOOR_BYTES, int(budget))
        sender.settled = sender.tick + FEEDBACK_TICKS
        sender.decided.append((sender.tick, sender.budget))

    def _allowed_ms(self, sender: _Sender, busy_ms: float, crowded: bool) -> float:
        """How long the medium may be busy: until the next messages come, and so that the link's own delay still fits in.

        A quarter of the deadline is always allowed, as where the link alone takes that long smaller messages would not help. Where
        messages are turned away sooner than that, their queue is what limits, and its length is learnt.
        """
        allowed_ms = min(sender.period_ms, max(self._deadline_ms - sender.link_ms, self._deadline_ms / 4))
        sender.ceiling_ms *= CEILING_GROWTH
        if crowded and busy_ms < allowed_ms:
            sender.ceiling_ms = max(CEILING_MARGIN * busy_ms, 1.0)
        return min(allowed_ms, sender.ceiling_ms)


def _note(sender: _Sender, tick: int, transit: Transit, sent_ns: int) -> None:
    """Keep the times that a message tells, whatever became of it."""
    if sender.sent_ns is not None and 0 < sent_ns - sender.sent_ns <= LONGEST_PERIOD_NS:
        sender.period_ms = (sent_ns - sender.sent_ns) / 1e6
    sender.tick, sender.sent_ns = tick, sent_ns
    if transit.arrival_ns is not None and transit.air is not None and transit.air.left_ns is not None:
        sender.link_ms += LINK_MEMORY * ((transit.arrival_ns - transit.air.left_ns) / 1e6 - sender.link_ms)


def _busy_ms(transit: Transit, sent_ns: int) -> float | None:
    """How long the medium is busy from the time of sending on; None if nobody knows."""
    idle_ns = transit.arrival_ns if transit.air is None else transit.air.idle_ns
    return None if idle_ns is None else (idle_ns - sent_ns) / 1e6


def _crowded(transit: Transit) -> bool:
    return transit.reason == QUEUE_FULL if transit.air is None else transit.air.crowded
