"""The network of a run: every message of a tick crosses its sender's own medium, then the shared medium, then its link."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from heal.agents.network.medium import Medium
from heal.agents.network.transit import OUTAGE, QUEUE_FULL, MediumFeedback, Transit, Transmission


class Network(Protocol):
    """The network of one run. A network may keep state from tick to tick: each run makes its own, and sends the ticks in order."""

    def send(self, tick: int, transmissions: Sequence[Transmission], now_ns: int | None = None) -> list[Transit]:
        """Send messages of a tick and return the transit of each, in the order of `transmissions`.

        Args:
            tick: number of the tick in the run.
            transmissions: the messages.
            now_ns: the instant of the tick; by default the time at which the first message is sent.
        """
        ...


class PerfectNetwork:
    """A network on which every message arrives at the time of sending."""

    def send(self, tick: int, transmissions: Sequence[Transmission], now_ns: int | None = None) -> list[Transit]:
        """Return one transit for each message, with the time of sending as the time of arrival."""
        return [
            Transit(transmission.sent_ns, feedback=MediumFeedback(transmission.sent_ns, transmission.sent_ns))
            for transmission in transmissions
        ]


class Link(Protocol):
    """The link of one agent. A link has no state: the transit of a message does not depend on other messages."""

    def deliver(self, sent_ns: int, size_bytes: int, tick: int) -> Transit:
        """Return the transit of a message that is sent at `sent_ns`, in simulated nanoseconds."""
        ...


LinkFactory = Callable[[str], Link]
"""Makes the link of an agent from the agent's id; a run calls it once for each agent."""


class LinkNetwork:
    """A link for each agent, with two optional media before the link: one of the agent's own, and one that all agents share.

    A message crosses its sender's own medium, then the shared medium, then the link. A message that the link loses occupies the
    media all the same; during an outage of the link nothing is transmitted. Times are counted from the first tick, so that a
    recorded trace begins with the run. If time goes back from one tick to the next, another recording of scenes begins, and the
    media are idle. Messages that an agent computed too late for their tick may follow in a later call for the same tick.
    """

    def __init__(self, links: LinkFactory, own: Callable[[], Medium] | None = None, shared: Medium | None = None) -> None:
        """Make the network from its links and media.

        Args:
            links: makes the link of an agent from the agent's id.
            own: makes the medium of one agent; None if agents have no medium of their own.
            shared: the medium of all agents; None for no shared medium.
        """
        self._make_link, self._make_own, self._shared = links, own, shared
        self._links: dict[str, Link] = {}
        self._own: dict[str, Medium] = {}
        self._start_ns: int | None = None
        self._last: tuple[int, int] | None = None

    def send(self, tick: int, transmissions: Sequence[Transmission], now_ns: int | None = None) -> list[Transit]:
        """Send messages of a tick and return the transit of each, in the order of `transmissions`; see `Network`."""
        if not transmissions:
            return []
        first_ns = min(transmission.sent_ns for transmission in transmissions)
        start_ns = self._begin_tick(tick, first_ns if now_ns is None else now_ns)
        timed = [replace(transmission, sent_ns=transmission.sent_ns - start_ns) for transmission in transmissions]
        over_links = [
            self._link(transmission.agent_id).deliver(transmission.sent_ns, transmission.size_bytes, tick) for transmission in timed
        ]
        up = [place for place, transit in enumerate(over_links) if transit.reason != OUTAGE]
        feedbacks = dict(zip(up, self._transmit(tick, [timed[place] for place in up]), strict=True))
        transits = [
            _combined(transmission, transit, feedbacks[place]) if place in feedbacks else transit
            for place, (transmission, transit) in enumerate(zip(timed, over_links, strict=True))
        ]
        return [_shifted(transit, start_ns) for transit in transits]

    def _begin_tick(self, tick: int, now_ns: int) -> int:
        """Store the number and the time of a new tick, with idle media if time went back; return the time of the first tick."""
        if self._last is None or tick > self._last[0]:
            if self._last is not None and now_ns < self._last[1]:
                for medium in [*self._own.values(), *([self._shared] if self._shared else [])]:
                    medium.clear()
            self._last = (tick, now_ns)
        if self._start_ns is None:
            self._start_ns = now_ns
        return self._start_ns

    def _link(self, agent_id: str) -> Link:
        if agent_id not in self._links:
            self._links[agent_id] = self._make_link(agent_id)
        return self._links[agent_id]

    def _transmit(self, tick: int, transmissions: Sequence[Transmission]) -> list[MediumFeedback]:
        """Transmit messages over the media before their links and return the feedback to each sender."""
        transmitted_ns: list[int | None] = [self._transmit_own(tick, transmission) for transmission in transmissions]
        overflow = [time_ns is None for time_ns in transmitted_ns]
        if self._shared is not None:
            waiting = [(place, time_ns) for place, time_ns in enumerate(transmitted_ns) if time_ns is not None]
            entering = [replace(transmissions[place], sent_ns=time_ns) for place, time_ns in waiting]
            finished_ns = self._shared.transmit(tick, entering)
            for (place, _), time_ns in zip(waiting, finished_ns, strict=True):
                transmitted_ns[place] = time_ns
            overflow = [dropped or None in finished_ns for dropped in overflow]
        return [
            MediumFeedback(transmitted_ns[place], self._idle_ns(transmission), overflow[place])
            for place, transmission in enumerate(transmissions)
        ]

    def _transmit_own(self, tick: int, transmission: Transmission) -> int | None:
        """Return the time at which the sender's own medium has transmitted a message; None if its queue was full."""
        if self._make_own is None:
            return transmission.sent_ns
        if transmission.agent_id not in self._own:
            self._own[transmission.agent_id] = self._make_own()
        return self._own[transmission.agent_id].transmit(tick, [transmission])[0]

    def _idle_ns(self, transmission: Transmission) -> int:
        """Return the time at which the media before the sender's link are idle again."""
        media = [self._own.get(transmission.agent_id), self._shared]
        return max(
            [transmission.sent_ns, *(medium.free_ns for medium in media if medium is not None and medium.free_ns is not None)]
        )


def _combined(transmission: Transmission, over_link: Transit, feedback: MediumFeedback) -> Transit:
    """Return the transit of a message over the media and then the link, from its transit over the link alone."""
    if feedback.transmitted_ns is None:
        return Transit(None, QUEUE_FULL, feedback)
    arrival_ns = None if over_link.arrival_ns is None else over_link.arrival_ns + feedback.transmitted_ns - transmission.sent_ns
    return Transit(arrival_ns, over_link.reason, feedback)


def _shifted(transit: Transit, by_ns: int) -> Transit:
    """Return a transit with all its times moved later by `by_ns`."""
    arrival_ns, feedback = transit.arrival_ns, transit.feedback
    if feedback is not None:
        transmitted_ns = None if feedback.transmitted_ns is None else feedback.transmitted_ns + by_ns
        feedback = MediumFeedback(transmitted_ns, feedback.idle_ns + by_ns, feedback.overflow)
    return Transit(None if arrival_ns is None else arrival_ns + by_ns, transit.reason, feedback)
