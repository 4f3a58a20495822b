"""What a door takes in: every byte string that comes is kept for the next tick, or turned away for a reason that is counted.

Strangers choose topics, lengths and bytes. What is kept of them is bounded: one message for each sender, and the number of senders.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any, Generic, TypeVar

from heal.agents.door.bucket import TokenBucket
from heal.agents.door.frame import claims_of
from heal.agents.door.options import DoorOptions
from heal.agents.door.signatures import SignatureCheck
from heal.agents.door.topics import sender_of
from heal.identity.allow_list import AllowedSenders

Payload = TypeVar("Payload")
# Why byte strings are turned away, beside the reasons for which signatures are refused.
UNKNOWN_TOPIC, ID_TAKEN, TOO_LONG, MALFORMED = "unknown topic", "id taken", "too long", "malformed"
TOO_MANY_SENDERS, RATE_LIMIT, QUEUE_FULL = "too many senders", "rate limit", "queue full"
# A sender that has been silent for so long makes room for another one.
FORGET_S = 10.0


@dataclass(frozen=True)
class OutsideMessage(Generic[Payload]):
    """A message that has come through the door.

    Attributes:
        agent_id: the sender by its topic.
        agent_type: its type, as the message claims.
        timestamp_ns: the time of the measurements, as the message claims.
        arrived_s: when it came, by the machine's monotonic clock.
        size_bytes: its length.
        payload: the message in the runtime's own form: bytes, or a reference to an object of Ray.
        sequence: the number that its sender has signed; 0 in a run without keys.
    """

    agent_id: str
    agent_type: str
    timestamp_ns: int
    arrived_s: float
    size_bytes: int
    payload: Payload
    sequence: int = 0

    def carried_as(self, payload: Any) -> OutsideMessage[Any]:
        """Return the message with its payload in another form."""
        return replace(self, payload=payload)


@dataclass(frozen=True)
class Awaited:
    """What a tick waits for.

    Attributes:
        until_s: until when, by the machine's monotonic clock.
        newer_than_ns: a message counts if its time is later; None if any message counts.
        agent_ids: the agents whose messages are awaited.
        agents: the least number of agents of which a message is there.
    """

    until_s: float
    newer_than_ns: int | None = None
    agent_ids: frozenset[str] = frozenset()
    agents: int = 0


@dataclass(frozen=True)
class Taken(Generic[Payload]):
    """What has come through the door since the tick before.

    Attributes:
        messages: at most one of each sender, in the order of their ids.
        turned_away: number of byte strings that were turned away, by reason.
    """

    messages: tuple[OutsideMessage[Payload], ...] = ()
    turned_away: Mapping[str, int] = field(default_factory=dict)


class _Sender:
    """What is kept of a sender: its limits, when it last sent, and its newest message."""

    def __init__(self, options: DoorOptions) -> None:
        self.last_s = 0.0
        self.newest: OutsideMessage[bytes] | None = None
        self._messages = TokenBucket(options.messages_per_s, max(1.0, options.messages_per_s))
        self._bytes = TokenBucket(options.bytes_per_s, max(options.most_message_bytes, options.bytes_per_s))

    def is_in_use(self, now_s: float) -> bool:
        """Return whether the sender has sent of late, or has a message that no tick has collected."""
        return self.newest is not None or now_s - self.last_s < FORGET_S

    def may_send(self, size_bytes: int, now_s: float) -> bool:
        """Return whether a message would be within the sender's limits."""
        return self._messages.has(1, now_s) and self._bytes.has(size_bytes, now_s)

    def count(self, message: OutsideMessage[bytes]) -> None:
        """Count a message that the sender has sent now."""
        self.last_s = message.arrived_s
        self._messages.take(1)
        self._bytes.take(message.size_bytes)

    def keep(self, message: OutsideMessage[bytes]) -> None:
        """Keep the newer one of a message and the one that is kept, by their signed numbers, and without these by their arrival.

        The time that a message claims is no measure: one that is ahead of its time would keep the sender's next ones away.
        """
        if self.newest is None or message.sequence >= self.newest.sequence:
            self.newest = message


class Intake:
    """Takes byte strings in. `receive` is called from the threads of the transport, everything else from the run's."""

    def __init__(self, options: DoorOptions, allowed: AllowedSenders | None = None) -> None:
        """Take in nothing yet.

        Args:
            options: of the door.
            allowed: the agents whose signed messages are taken in; None if nothing is signed in the run.
        """
        self._options = options
        self._signatures = None if allowed is None else SignatureCheck(allowed, options.forgeries_per_s)
        self._senders: dict[str, _Sender] = {}
        self._reserved: frozenset[str] = frozenset()
        self._turned_away: Counter[str] = Counter()
        self._changed = threading.Condition()

    def reserve(self, agent_ids: Iterable[str]) -> None:
        """Turn away messages under the ids of the agents that the run has itself; replaces those that were reserved before."""
        with self._changed:
            self._reserved = frozenset(agent_ids)

    def receive(self, topic: str, size_bytes: int, read: Callable[[], bytes]) -> None:
        """Keep a message until the next `take`, or turn it away.

        Args:
            topic: on which it came.
            size_bytes: its length.
            read: returns its bytes, which costs a copy; called only if topic and length are in order.
        """
        checked = self._check(topic, size_bytes, read, monotonic())
        with self._changed:
            reason = checked if isinstance(checked, str) else self._keep(checked)
            if reason is not None:
                self._turned_away[reason] += 1

    def _check(self, topic: str, size_bytes: int, read: Callable[[], bytes], now_s: float) -> OutsideMessage[bytes] | str:
        """Check a byte string, the cheapest checks first; return it as a message, or why it is turned away.

        The run's thread is not kept waiting meanwhile. Nothing here counts for the limits of a sender: what is no message, or is
        not signed by the agent on whose topic it comes, does not use them up.
        """
        agent_id = sender_of(topic, self._options.run)
        if agent_id is None:
            return UNKNOWN_TOPIC
        if agent_id in self._reserved:
            return ID_TAKEN
        if size_bytes > self._options.most_message_bytes:
            return TOO_LONG
        content = read()
        claims = claims_of(content)
        if claims is None:
            return MALFORMED
        message = OutsideMessage(agent_id, claims.agent_type, claims.timestamp_ns, now_s, size_bytes, content)
        return message if self._signatures is None else self._check_signature(message, self._signatures)

    def _check_signature(self, message: OutsideMessage[bytes], signatures: SignatureCheck) -> OutsideMessage[bytes] | str:
        """Return a message with its sequence number if its sender has signed it, or why it is turned away."""
        with self._changed:
            sender = self._senders.get(message.agent_id)
            if sender is not None and not sender.may_send(message.size_bytes, message.arrived_s):
                return RATE_LIMIT  # the sender's own messages have used its limits up, and more of them are not worth the time
        signed = signatures.check(message.agent_id, message.payload, message.arrived_s)
        return signed if isinstance(signed, str) else replace(message, sequence=signed)

    def _keep(self, message: OutsideMessage[bytes]) -> str | None:
        """Keep a message that counts for its sender; return why it, or the one that it displaces, is turned away."""
        sender = self._sender(message.agent_id, message.arrived_s)
        if sender is None:
            return TOO_MANY_SENDERS
        if not sender.may_send(message.size_bytes, message.arrived_s):
            return RATE_LIMIT
        displaces = sender.newest is not None
        sender.count(message)
        sender.keep(message)
        self._changed.notify_all()
        return QUEUE_FULL if displaces else None

    def _sender(self, agent_id: str, now_s: float) -> _Sender | None:
        """Return what is kept of a sender; None if there is no room for a new one."""
        if agent_id not in self._senders:
            if len(self._senders) >= self._options.most_agents:
                self._senders = {name: sender for name, sender in self._senders.items() if sender.is_in_use(now_s)}
            if len(self._senders) >= self._options.most_agents:
                return None
            self._senders[agent_id] = _Sender(self._options)
        return self._senders[agent_id]

    def wait(self, awaited: Awaited) -> bool:
        """Wait until everything is there that is awaited, or until its time is up; return whether it is there."""
        with self._changed:
            return self._changed.wait_for(lambda: self._is_complete(awaited), max(0.0, awaited.until_s - monotonic()))

    def _is_complete(self, awaited: Awaited) -> bool:
        messages = [sender.newest for sender in self._senders.values() if sender.newest is not None]
        newer_than_ns = awaited.newer_than_ns
        come = {message.agent_id for message in messages if newer_than_ns is None or message.timestamp_ns > newer_than_ns}
        return awaited.agent_ids - self._reserved <= come and len(come) >= awaited.agents

    def take(self) -> Taken[bytes]:
        """Return all messages that are kept, and the counts since the last call."""
        with self._changed:
            kept = {name: sender.newest for name, sender in self._senders.items() if sender.newest is not None}
            for name in kept:
                self._senders[name].newest = None
            counts, self._turned_away = +self._turned_away, Counter()
        return Taken(tuple(kept[name] for name in sorted(kept)), counts)
