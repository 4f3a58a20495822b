"""Messages that have been sent and not yet been read by a fusion node."""

from __future__ import annotations

from typing import Generic, TypeVar

from heal.agents.message_records import MessageRecord
from heal.agents.options import RunOptions
from heal.agents.records import FusionRequest

Payload = TypeVar("Payload")


class Mailbox(Generic[Payload]):
    """Keeps messages until they arrive, but none for longer than `max_age_ms`."""

    def __init__(self, options: RunOptions) -> None:
        """Make an empty mailbox."""
        self._options = options
        self._waiting: list[tuple[MessageRecord, Payload]] = []
        self._sequence = ""

    def post(self, record: MessageRecord, payload: Payload) -> None:
        """Take in a message that has been sent, unless the message is lost, or late and of no use under the run's policy."""
        if record.arrival_ns is not None and (record.status == "used" or self._options.late != "drop"):
            self._waiting.append((record, payload))

    def collect(self, request: FusionRequest, deadline_ms: float) -> list[tuple[MessageRecord, Payload]]:
        """Return the messages that have arrived by `deadline_ms` after a tick, in the order in which they were sent."""
        oldest_ns = request.timestamp_ns - self._options.max_age_ms * 1e6
        deadline_ns = request.timestamp_ns + round(deadline_ms * 1e6)
        if request.sequence != self._sequence:
            self._waiting = [pair for pair in self._waiting if pair[0].tick == request.tick]
        self._sequence = request.sequence
        fresh = [pair for pair in self._waiting if pair[0].sent_ns >= oldest_ns or pair[0].tick == request.tick]
        self._waiting = [pair for pair in fresh if _arrival_ns(pair[0]) > deadline_ns]
        return [pair for pair in fresh if _arrival_ns(pair[0]) <= deadline_ns]


def _arrival_ns(record: MessageRecord) -> int:
    assert record.arrival_ns is not None, "a message that never arrives is not posted"
    return record.arrival_ns
