"""The check of who has sent a message, before anything of the message is read; docs/security.md says against whom it helps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from heal.agents.fusion.admission import MAX_AHEAD_MS
from heal.agents.fusion.map_reader import MapReader
from heal.agents.options import RunOptions
from heal.agents.records import Arrival, FusionRequest
from heal.identity.allow_list import AllowedSenders, allow_list_path
from heal.identity.verifier import Refusal, Verifier
from heal.message.header import UnreadMessage


def allowed_senders(options: RunOptions) -> AllowedSenders | None:
    """Return the allow list of a run that begins now; None if nothing is signed in the run.

    Raises:
        UserError: the run's folder of keys has no allow list that can be read.
    """
    return None if options.keys is None else AllowedSenders(allow_list_path(Path(options.keys)))


class SenderCheck:
    """Takes messages out of their envelopes at one fusion node, and refuses those that no allowed agent has signed.

    The ego's own message is read on board: it crosses no link, and needs no envelope.
    """

    def __init__(self, allowed: AllowedSenders | None, options: RunOptions, reader: MapReader) -> None:
        """Make a check that has seen no message.

        Args:
            allowed: the senders; None if nothing is signed in the run: then every message is taken as it is.
            options: of the run.
            reader: reads the envelopes.
        """
        self._reader = reader
        self._verifier = None if allowed is None else Verifier(allowed, options.max_age_ms, MAX_AHEAD_MS, reader.open_envelope)

    def used_sequences(self) -> dict[bytes, int]:
        """Return the largest sequence number of each key that is used up; none if nothing is signed in the run."""
        return {} if self._verifier is None else self._verifier.used()

    def open_message(self, request: FusionRequest, arrival: Arrival) -> tuple[Arrival, UnreadMessage] | Refusal:
        """Return an arrival without its envelope, and the header of its message; or why the arrival is refused.

        Raises:
            MessageError: the bytes are not a message.
        """
        if self._verifier is None or arrival.agent_id == request.ego_id:
            return arrival, self._reader.open_message(arrival)
        verified = self._verifier.verify(arrival.buffer, request.timestamp_ns, arrival.agent_id)
        if isinstance(verified, Refusal):
            return verified
        arrival = replace(arrival, buffer=verified.envelope.message)
        unread = self._reader.open_message(arrival)
        if verified.types is not None and unread.header.agent_type not in verified.types:
            return Refusal("wrong type", f"claims type {unread.header.agent_type!r}, allowed are {', '.join(verified.types)}")
        return arrival, unread
