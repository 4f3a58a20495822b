"""A message on its way, without its content: how big it is and when it was sent; when, if ever, it arrives."""

from __future__ import annotations

from dataclasses import dataclass

ON_THE_LINK = "on the link"
PACKET_LOSS = "packet loss"
OUTAGE = "outage"
QUEUE_FULL = "queue full"


@dataclass(frozen=True)
class Parcel:
    """A message that enters a network.

    Attributes:
        agent_id: the sender.
        sent_ns: simulated time.
        size_bytes: all of it.
    """

    agent_id: str
    sent_ns: int
    size_bytes: int


@dataclass(frozen=True)
class Air:
    """What a sender hears of the media before its link, its own and the shared one: its rate control lives on this.

    Attributes:
        left_ns: simulated time at which its message was transmitted and had only its link before it; None if it was turned away.
        idle_ns: simulated time at which all that was queued by then, whosesoever, is transmitted.
        crowded: a message of this tick was turned away: its own, or one of the medium that it shares.
    """

    left_ns: int | None
    idle_ns: int
    crowded: bool = False


@dataclass(frozen=True)
class Transit:
    """What became of a message on its way.

    Attributes:
        arrival_ns: simulated time at which it came out; None if it never does.
        reason: why not: "on the link", "packet loss", "outage" or "queue full".
        air: what its sender heard of the media; None during an outage, or where nobody knows.
    """

    arrival_ns: int | None
    reason: str = ""
    air: Air | None = None
