"""What became of the messages of a tick: a record for each agent's message, and counts over links."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Literal

MessageStatus = Literal["used", "rejected", "out of range", "late", "lost", "not sent"]
# The statuses that are counted together with their reasons.
REASONED: tuple[MessageStatus, ...] = ("lost", "rejected", "not sent")


@dataclass(frozen=True)
class AgentLatency:
    """Wall-clock time of an agent's stages.

    Attributes:
        sense_ms: to read or ray-cast the sensors.
        encode_ms: to run the network.
        pack_ms: to make the bytes of the message.
        packed_s: when the last stage ended, by the machine's monotonic clock.
    """

    sense_ms: float
    encode_ms: float
    pack_ms: float
    packed_s: float = 0.0

    @property
    def total_ms(self) -> float:
        """The time of all stages together."""
        return self.sense_ms + self.encode_ms + self.pack_ms


@dataclass(frozen=True)
class MessageRecord:
    """What became of one agent's message in one tick.

    Attributes:
        tick: the tick in which the message was sent.
        agent_id: the sender.
        agent_type: the sender's type.
        own: whether the message is the ego's own, which is read on board: it crosses no link and is not counted.
        size_bytes: length as sent; 0 if the agent sent nothing, or had not finished the message by the deadline.
        sent_ns: simulated time at which the message entered the link.
        arrival_ns: simulated time at which the message came out; None if it did not.
        status: used, rejected, out of range, late, lost or not sent: what became of the message in its own tick.
        reason: why the message was not used, in few words, for counting; "" if it was used.
        detail: the reason's numbers and names in this single case.
        latency: of the agent's stages; None if the agent died, or is an outside one.
        outside: whether the agent is an outside one (`heal.agents.door`), whose messages cross a real link, not a simulated one.
    """

    tick: int
    agent_id: str
    agent_type: str
    own: bool
    size_bytes: int
    sent_ns: int
    arrival_ns: int | None
    status: MessageStatus
    reason: str = ""
    detail: str = ""
    latency: AgentLatency | None = None
    outside: bool = False

    @property
    def explanation(self) -> str:
        """The reason with its detail, for people."""
        return ": ".join(part for part in (self.reason, self.detail) if part)

    @property
    def kind(self) -> str:
        """The status, and of a message that was lost, rejected or not sent the reason; for counting."""
        return f"{self.status}: {self.reason}" if self.status in REASONED and self.reason else self.status

    @property
    def link_ms(self) -> float | None:
        """Simulated time on the link in milliseconds; None if the message was lost, or crossed no simulated link."""
        return None if self.arrival_ns is None or self.outside else (self.arrival_ns - self.sent_ns) / 1e6


@dataclass(frozen=True)
class MessageCounts:
    """Messages over links; sent = arrived + late + lost, arrived = used + rejected + out_of_range.

    Attributes:
        not_sent: messages that agents did not send, because they had crashed, failed or were busy; no part of `sent`.
        unfinished: late messages that their agents finished after the deadline; their bytes are not known in their tick.
        bytes: of the other messages that were sent.
    """

    sent: int = 0
    arrived: int = 0
    late: int = 0
    lost: int = 0
    used: int = 0
    rejected: int = 0
    out_of_range: int = 0
    not_sent: int = 0
    unfinished: int = 0
    bytes: int = 0

    @property
    def bytes_per_message(self) -> float:
        """Mean size of a message that was sent over a link; 0 if none was sent."""
        return self.bytes / max(self.sent - self.unfinished, 1)

    def __add__(self, other: MessageCounts) -> MessageCounts:
        """Add the counts of two groups of messages."""
        return MessageCounts(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    @staticmethod
    def of(records: Iterable[MessageRecord]) -> MessageCounts:
        """Count the records of messages that crossed a link."""
        over_links = [record for record in records if not record.own]
        by_status = Counter(record.status for record in over_links)
        return MessageCounts(
            sent=len(over_links) - by_status["not sent"],
            arrived=by_status["used"] + by_status["rejected"] + by_status["out of range"],
            late=by_status["late"],
            lost=by_status["lost"],
            used=by_status["used"],
            rejected=by_status["rejected"],
            out_of_range=by_status["out of range"],
            not_sent=by_status["not sent"],
            unfinished=sum(record.status == "late" and not record.size_bytes for record in over_links),
            bytes=sum(record.size_bytes for record in over_links),
        )
