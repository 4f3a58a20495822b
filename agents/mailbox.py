"""Messages that have been sent and not yet been read by a fusion node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from heal.agents.message_records import MessageRecord
from heal.agents.options import RunOptions
from heal.agents.records import FusionRequest, Rejection

Payload = TypeVar("Payload")
TOO_LATE, OTHER_RECORDING = "too late", "other recording"
"""Why no fusion node reads a message: it is older than `max_age_ms`, or another recording of scenes has begun since it was sent."""


class Mailbox(Generic[Payload]):
    """Keeps messages until they arrive, but none for longer than `max_age_ms`."""

    def __init__(self, options: RunOptions) -> None:
        """Make an empty mailbox."""
        self._options = options
        self._waiting: list[tuple[MessageRecord, Payload]] = []
        self._sequence = ""
        self._unread: list[Rejection] = []

    def post(self, record: MessageRecord, payload: Payload) -> None:
        """Take in a message that has been sent, unless the message is lost, or late and of no use under the run's policy."""
        if record.arrival_ns is not None and (record.status == "used" or self._options.late != "drop"):
            self._waiting.append((record, payload))

    def collect(self, request: FusionRequest, deadline_ms: float) -> list[tuple[MessageRecord, Payload]]:
        """Return the messages that have arrived by `deadline_ms` after a tick, in the order in which they were sent."""
        oldest_ns = request.timestamp_ns - self._options.max_age_ms * 1e6
        deadline_ns = request.timestamp_ns + round(deadline_ms * 1e6)
        if request.sequence != self._sequence:
            self._drop(request.tick, OTHER_RECORDING, lambda _: True)
        self._sequence = request.sequence
        self._drop(request.tick, TOO_LATE, lambda record: record.sent_ns < oldest_ns)
        fresh = self._waiting
        self._waiting = [pair for pair in fresh if _arrival_ns(pair[0]) > deadline_ns]
        return [pair for pair in fresh if _arrival_ns(pair[0]) <= deadline_ns]

    def take_unread(self) -> list[Rejection]:
        """Return the messages that no fusion node will read since the last call, with the reason."""
        unread, self._unread = self._unread, []
        return unread

    def _drop(self, tick: int, reason: str, is_useless: Callable[[MessageRecord], bool]) -> None:
        """Drop the waiting messages that are of no use any more; those of the tick itself stay."""
        useless = [record for record, _ in self._waiting if record.tick != tick and is_useless(record)]
        self._unread += [Rejection(record.agent_id, record.tick, reason, f"not read by tick {tick}") for record in useless]
        self._waiting = [pair for pair in self._waiting if pair[0].tick == tick or not is_useless(pair[0])]


def _arrival_ns(record: MessageRecord) -> int:
    assert record.arrival_ns is not None, "a message that never arrives is not posted"
    return record.arrival_ns
