"""The network of a run: what all messages of a tick cross together, first their senders' queues, then the air, then their links."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from heal.agents.network.medium import Medium
from heal.agents.network.transit import OUTAGE, QUEUE_FULL, Air, Parcel, Transit


class Network(Protocol):
    """What the messages of a run cross. It may remember: a run has one, and calls it once for each tick, in their order."""

    def send(self, tick: int, parcels: Sequence[Parcel]) -> list[Transit]:
        """Let the messages of a tick cross; what becomes of each, in the order of the parcels."""
        ...


class PerfectNetwork:
    """Everything arrives at once."""

    def send(self, tick: int, parcels: Sequence[Parcel]) -> list[Transit]:
        """Arrival at the time of sending."""
        return [Transit(parcel.sent_ns, air=Air(parcel.sent_ns, parcel.sent_ns)) for parcel in parcels]


class Link(Protocol):
    """What one agent's messages cross on their own; it has no memory."""

    def deliver(self, sent_ns: int, size_bytes: int, tick: int) -> Transit:
        """What becomes of a message sent at `sent_ns`, in simulated nanoseconds."""
        ...


LinkFactory = Callable[[str], Link]
"""Makes the link of an agent from its id; a run calls it once for each agent."""


class LinkNetwork:
    """A link for each agent; before it, where they have one, a medium of the agent's own and one that all share.

    A message first waits for its sender's own medium and crosses it, then the shared one, then its link. What the link loses has
    taken its time on the air all the same; but during an outage nothing is transmitted. Times are counted from the first tick, so
    that a recorded trace begins with the run. Where time goes back from one tick to the next another recording of scenes begins,
    with idle media. Messages that were not done in time for their tick may follow in a later call.
    """

    def __init__(self, links: LinkFactory, own: Callable[[], Medium] | None = None, shared: Medium | None = None) -> None:
        """Make it of its parts.

        Args:
            links: agent id to link.
            own: makes the medium that an agent has for itself; None for none.
            shared: the medium of all; None for none.
        """
        self._make_link, self._make_own, self._shared = links, own, shared
        self._links: dict[str, Link] = {}
        self._own: dict[str, Medium] = {}
        self._start_ns: int | None = None
        self._last: tuple[int, int] | None = None

    def send(self, tick: int, parcels: Sequence[Parcel]) -> list[Transit]:
        """Let the messages of a tick cross; what becomes of each, in the order of the parcels."""
        if not parcels:
            return []
        start_ns = self._begin(tick, min(parcel.sent_ns for parcel in parcels))
        timed = [replace(parcel, sent_ns=parcel.sent_ns - start_ns) for parcel in parcels]
        crossed = [self._link(parcel.agent_id).deliver(parcel.sent_ns, parcel.size_bytes, tick) for parcel in timed]
        there = [place for place, link in enumerate(crossed) if link.reason != OUTAGE]
        heard = dict(zip(there, self._transmit(tick, [timed[place] for place in there]), strict=True))
        joined = [
            _join(parcel, link, heard[place]) if place in heard else link
            for place, (parcel, link) in enumerate(zip(timed, crossed, strict=True))
        ]
        return [_later(transit, start_ns) for transit in joined]

    def _begin(self, tick: int, now_ns: int) -> int:
        """Note which tick it is, and its time; returns the time of the first one."""
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

    def _transmit(self, tick: int, parcels: Sequence[Parcel]) -> list[Air]:
        """Let messages cross the media that lie before their links."""
        left: list[int | None] = [self._cross_own(tick, parcel) for parcel in parcels]
        waiting = [(place, time_ns) for place, time_ns in enumerate(left) if time_ns is not None]
        crowded = [time_ns is None for time_ns in left]
        if self._shared is not None:
            through = self._shared.cross(tick, [replace(parcels[place], sent_ns=time_ns) for place, time_ns in waiting])
            for (place, _), time_ns in zip(waiting, through, strict=True):
                left[place] = time_ns
            crowded = [full or None in through for full in crowded]
        return [Air(left[place], self._idle_ns(parcel), crowded[place]) for place, parcel in enumerate(parcels)]

    def _cross_own(self, tick: int, parcel: Parcel) -> int | None:
        if self._make_own is None:
            return parcel.sent_ns
        if parcel.agent_id not in self._own:
            self._own[parcel.agent_id] = self._make_own()
        return self._own[parcel.agent_id].cross(tick, [parcel])[0]

    def _idle_ns(self, parcel: Parcel) -> int:
        """When the media before an agent's link are idle again."""
        media = [self._own.get(parcel.agent_id), self._shared]
        return max([parcel.sent_ns, *(medium.free_ns for medium in media if medium is not None and medium.free_ns is not None)])


def _join(parcel: Parcel, link: Transit, air: Air) -> Transit:
    """A message's way through the media and then over its link."""
    if air.left_ns is None:
        return Transit(None, QUEUE_FULL, air)
    arrival_ns = None if link.arrival_ns is None else link.arrival_ns + air.left_ns - parcel.sent_ns
    return Transit(arrival_ns, link.reason, air)


def _later(transit: Transit, by_ns: int) -> Transit:
    """The same, told in times that are later."""
    arrival_ns, air = transit.arrival_ns, transit.air
    if air is not None:
        air = Air(None if air.left_ns is None else air.left_ns + by_ns, air.idle_ns + by_ns, air.crowded)
    return Transit(None if arrival_ns is None else arrival_ns + by_ns, transit.reason, air)
