"""The way of a message through the network, without the message's content: its size, when it is sent and when it arrives."""

from __future__ import annotations

from dataclasses import dataclass

# The reasons for which a network loses a message; results count lost messages by them.
ON_THE_LINK = "on the link"
PACKET_LOSS = "packet loss"
OUTAGE = "outage"
QUEUE_FULL = "queue full"


@dataclass(frozen=True)
class Transmission:
    """A message that enters a network.

    Attributes:
        agent_id: the sender.
        sent_ns: simulated time at which the message is sent.
        size_bytes: length of the whole message.
    """

    agent_id: str
    sent_ns: int
    size_bytes: int


@dataclass(frozen=True)
class MediumFeedback:
    """Feedback to a sender from the media that its message crosses before the link: the sender's own and the shared medium.

    Rate control works with this feedback.

    Attributes:
        transmitted_ns: simulated time at which the last medium had transmitted the message; None if a queue dropped the message.
        idle_ns: simulated time at which these media will have transmitted all messages in their queues, whoever sent them.
        overflow: whether a queue dropped a message of this tick: the sender's own, or another sender's on the shared medium.
    """

    transmitted_ns: int | None
    idle_ns: int
    overflow: bool = False


@dataclass(frozen=True)
class Transit:
    """The result of sending a message.

    Attributes:
        arrival_ns: simulated time at which the message arrives; None if the message is lost.
        reason: why the message is lost: "on the link", "packet loss", "outage" or "queue full"; "" if the message arrives.
        feedback: of the media before the link; None during an outage, and from a link alone, which has no media.
    """

    arrival_ns: int | None
    reason: str = ""
    feedback: MediumFeedback | None = None
