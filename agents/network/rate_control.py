"""Rate control: each sender fits the size of its messages to its medium, from the medium's feedback, without central control."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from heal.agents.network.transit import QUEUE_FULL, Transit

FEEDBACK_TICKS = 3
"""Delay of the feedback in ticks; because of it, runs that encode some ticks ahead give the same result as runs that do not."""

FLOOR_BYTES = 2_000
"""Smallest budget."""

START_BYTES = 4 * FLOOR_BYTES
"""First budget of a sender that meets a limit. It is small, so that many senders fit at once; from there budgets grow fast."""

GOAL = 0.8
"""Share of the allowed time that all messages of a tick together should occupy the medium."""

GAIN = 0.8
"""Exponent on the factor that would reach the goal in one step; below 1, because the senders step at different times."""

FAIRNESS, COMMON_BYTES = 0.06, 32_000
"""Each step also moves the logarithm of the budget by this share towards the logarithm of one common size for all senders.

The sum of the budgets stays constant because the steps of the other senders compensate for it.
"""

LEAST_STEP, MOST_STEP = 0.25, 4.0
"""Bounds of the factor of one step. The feedback comes before it is known how long a great overload lasts."""

CEILING_MARGIN, CEILING_GROWTH = 0.9, 1.02
"""Share of the busy time at which a queue overflowed that becomes the ceiling, and the ceiling's growth with each observation."""

LINK_MEMORY = 1 / 8
"""Weight of the newest delay in the mean delay of a link."""

LONGEST_PERIOD_NS = 1_000_000_000
"""Longest time between two messages that counts as a sender's period; a longer time is a pause."""


@dataclass
class _Sender:
    """The state of one sender.

    Attributes:
        period_ms: time between the two newest messages.
        budget: largest size of a message in bytes; None while there is no limit.
        settled: first tick whose message was made for the budget.
        tick: tick of the newest message.
        sent_ns: simulated time at which the newest message was sent.
        link_ms: mean delay of the sender's link, without the media.
        ceiling_ms: largest busy time for which the queue of the medium is known to have room.
        decided: for each change of the budget the tick whose observation caused the change, and the new budget.
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
    """A controller that keeps a budget in bytes for every sender, such that messages arrive by a deadline.

    Each sender observes how long its medium is busy with the messages of a tick, which is the same for all senders on the medium,
    and multiplies its budget by a factor that would bring the busy time to the goal, once in the time that feedback takes. A small
    pull towards one common size is added: the busy time corrects the sum of the budgets and the pull corrects the differences, so
    that the shares become equal. This is the idea of LIMERIC, the adaptive control in ETSI TS 102 687, here on a logarithmic scale
    so that no parameter depends on the number of senders. Delay and losses of the link itself do not change the budget, because
    smaller messages would not reduce them; the link's delay is subtracted from the allowed time.
    """

    def __init__(self, deadline_ms: float) -> None:
        """Make a rate control in which no sender has a limit yet.

        Args:
            deadline_ms: longest time in ms from sending to arrival.
        """
        self._deadline_ms = deadline_ms
        self._senders: dict[str, _Sender] = {}

    def budget_bytes(self, tick_number: int, agent_id: str) -> int | None:
        """Return the largest size of a message in bytes, from observations up to `FEEDBACK_TICKS` earlier; None for no limit.

        Args:
            tick_number: number of the tick, counted from the begin of the run from 0.
            agent_id: the sender.
        """
        sender = self._senders.get(agent_id)
        decided = () if sender is None else tuple(sender.decided)
        return next((budget for tick, budget in reversed(decided) if tick <= tick_number - FEEDBACK_TICKS), None)

    def observe(self, tick_number: int, agent_id: str, size_bytes: int, transit: Transit, sent_ns: int) -> None:
        """Observe the transit of a message, and change the sender's budget if the transit calls for it.

        Args:
            tick_number: tick in which the message was sent. The messages of a sender come in the order of ticks; a message that
                comes after a later one is ignored.
            agent_id: the sender.
            size_bytes: length of the message.
            transit: of the message. If the transit has no feedback, its whole delay is attributed to the medium.
            sent_ns: simulated time at which the message was sent.
        """
        sender = self._senders.setdefault(agent_id, _Sender(self._deadline_ms))
        if tick_number < sender.tick:
            return
        _record_times(sender, tick_number, transit, sent_ns)
        busy_ms, overflow = _busy_ms(transit, sent_ns), _is_overflow(transit)
        if tick_number < sender.settled or (busy_ms is None and not overflow):
            return
        self._step(sender, size_bytes, math.inf if busy_ms is None else busy_ms, overflow)

    def _step(self, sender: _Sender, size_bytes: int, busy_ms: float, overflow: bool) -> None:
        """Change the budget of a sender after an observation, or set the first budget of a sender that meets a limit."""
        allowed_ms = self._allowed_ms(sender, busy_ms, overflow)
        if sender.budget is None:
            if busy_ms <= allowed_ms and not overflow:
                return
            budget = float(min(START_BYTES, size_bytes))
        else:
            to_goal = GOAL * allowed_ms / max(busy_ms, 1e-9)
            step = min(MOST_STEP, max(LEAST_STEP, to_goal)) ** GAIN
            budget = sender.budget * step * (COMMON_BYTES / sender.budget) ** FAIRNESS
            if step > 1:
                # A message below its budget does not show what a message of the full budget would do.
                budget = min(budget, max(sender.budget, 2 * size_bytes))
        sender.budget = max(FLOOR_BYTES, int(budget))
        sender.settled = sender.tick + FEEDBACK_TICKS
        sender.decided.append((sender.tick, sender.budget))

    def _allowed_ms(self, sender: _Sender, busy_ms: float, overflow: bool) -> float:
        """Return how long the medium may be busy: until the next messages come, and within the deadline less the link's delay.

        At least a quarter of the deadline is allowed: if the link alone takes the rest, smaller messages do not help. If the queue
        drops messages at a lower busy time than that, the queue is the limit, and the ceiling of the sender is set below this busy
        time.
        """
        allowed_ms = min(sender.period_ms, max(self._deadline_ms - sender.link_ms, self._deadline_ms / 4))
        sender.ceiling_ms *= CEILING_GROWTH
        if overflow and busy_ms < allowed_ms:
            sender.ceiling_ms = max(CEILING_MARGIN * busy_ms, 1.0)
        return min(allowed_ms, sender.ceiling_ms)


def _record_times(sender: _Sender, tick: int, transit: Transit, sent_ns: int) -> None:
    """Update the times of a sender (period, newest message, mean delay of the link) from a message, lost or not."""
    if sender.sent_ns is not None and 0 < sent_ns - sender.sent_ns <= LONGEST_PERIOD_NS:
        sender.period_ms = (sent_ns - sender.sent_ns) / 1e6
    sender.tick, sender.sent_ns = tick, sent_ns
    feedback = transit.feedback
    if transit.arrival_ns is not None and feedback is not None and feedback.transmitted_ns is not None:
        sender.link_ms += LINK_MEMORY * ((transit.arrival_ns - feedback.transmitted_ns) / 1e6 - sender.link_ms)


def _busy_ms(transit: Transit, sent_ns: int) -> float | None:
    """Return how long the medium is busy after the time of sending, in ms; None if the transit shows no time."""
    idle_ns = transit.arrival_ns if transit.feedback is None else transit.feedback.idle_ns
    return None if idle_ns is None else (idle_ns - sent_ns) / 1e6


def _is_overflow(transit: Transit) -> bool:
    """Return whether a queue dropped the message, or another one on the same medium in this tick."""
    return transit.reason == QUEUE_FULL if transit.feedback is None else transit.feedback.overflow
