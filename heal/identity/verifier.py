"""A receiver's side of identity: whether the allowed sender has signed the bytes that came, now, and for the first time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from heal.identity.allow_list import AllowedSenders, Owner, now
from heal.identity.envelope import Envelope, EnvelopeError, is_enveloped
from heal.message.header import Buffer

CLOCK_TOLERANCE_S = 1.0
"""By how much the clock of a sender's machine may be behind that of the machine on which a run was started."""

SEQUENCES_KEPT = 1024
"""How many sequence numbers of a key a receiver remembers: those of 100 s at 10 Hz."""

BAD_SIGNATURE = "bad signature"
"""The reason of the one refusal that costs more than comparisons."""


class Refusal(NamedTuple):
    """Why received bytes are not used.

    Attributes:
        reason: in few words, for counting.
        detail: the numbers and names of this single case.
    """

    reason: str
    detail: str


@dataclass(frozen=True, eq=False)
class Verified:
    """A message whose sender is known.

    Attributes:
        agent_id: the sender.
        types: the agent types that the sender may have; None for any.
        envelope: with the message, whose own content has not been read.
    """

    agent_id: str
    types: tuple[str, ...] | None
    envelope: Envelope


class ReplayWindow:
    """The sequence numbers of one key that have been used: the largest of them, and a limit below which all count as used."""

    def __init__(self, floor: int, kept: int = SEQUENCES_KEPT) -> None:
        """Make a window in which all numbers up to `floor` count as used; it remembers `kept` numbers above."""
        self._floor, self._kept = floor, kept
        self._used: list[int] = []  # in ascending order

    @property
    def largest(self) -> int:
        """The largest number that counts as used."""
        return self._used[-1] if self._used else self._floor

    def is_new(self, sequence: int) -> bool:
        """Return whether a number has not been used."""
        place = bisect_left(self._used, sequence)
        return sequence > self._floor and self._used[place : place + 1] != [sequence]

    def add(self, sequence: int) -> None:
        """Note that a new number is used now."""
        self._used.insert(bisect_left(self._used, sequence), sequence)
        if len(self._used) > self._kept:
            self._floor = self._used.pop(0)


class Verifier:
    """Verifies the envelopes that one receiver gets. A message that has been verified once is a replay from then on."""

    def __init__(
        self,
        allowed: AllowedSenders,
        max_age_ms: float,
        max_ahead_ms: float,
        read: Callable[[Buffer], Envelope] = Envelope.of,
        calendar: Callable[[], datetime] = now,
    ) -> None:
        """Make a verifier that has seen no message.

        Args:
            allowed: the senders; the caller lets it read its file again.
            max_age_ms: a message is refused if its time of signing differs more from the time at which it is read.
            max_ahead_ms: so is one that was signed further in the future.
            read: reads an envelope; given by a caller for whom several receivers get the same bytes.
            calendar: the present time, by which keys are valid.
        """
        self._allowed, self._max_age_ms, self._max_ahead_ms = allowed, max_age_ms, max_ahead_ms
        self._read, self._calendar = read, calendar
        self._windows: dict[bytes, ReplayWindow] = {}

    def verify(self, buffer: Buffer, now_ns: int, sender: str | None = None) -> Verified | Refusal:
        """Verify received bytes, the cheapest checks first.

        Args:
            buffer: the bytes, of any content and length.
            now_ns: the time against which the time of signing counts, in nanoseconds, on the clock of the messages' own times.
            sender: the agent from which the bytes must be; None for any that is allowed.
        """
        if not is_enveloped(buffer):
            return Refusal("unsigned", "the bytes do not begin with an envelope")
        try:
            envelope = self._read(buffer)
        except EnvelopeError as error:
            return Refusal("malformed", str(error))
        owner = self._allowed.owner(envelope.key_id)
        if owner is None:
            return Refusal("unknown key", f"{envelope.key_id.hex()} is not on the allow list")
        problem = self._problem(envelope, owner, now_ns, sender)
        if problem is not None:
            return problem
        if not envelope.is_signed_by(bytes.fromhex(owner.key.public)):
            return Refusal(BAD_SIGNATURE, f"key {envelope.key_id.hex()} of {owner.agent_id!r} has not signed this")
        self._window(envelope.key_id).add(envelope.sequence)
        return Verified(owner.agent_id, owner.types, envelope)

    def used(self) -> dict[bytes, int]:
        """Return the largest sequence number of each key, by its id, that counts as used."""
        return {key_id: window.largest for key_id, window in self._windows.items()}

    def _problem(self, envelope: Envelope, owner: Owner, now_ns: int, sender: str | None) -> Refusal | None:
        """Check everything that an envelope claims, before its signature, which costs more."""
        if sender is not None and owner.agent_id != sender:
            return Refusal("wrong sender", f"signed with a key of {owner.agent_id!r}")
        unusable = owner.key.problem(self._calendar())
        if unusable is not None:
            return Refusal(unusable[0], f"key {envelope.key_id.hex()}, {unusable[1]}")
        age_ms = (now_ns - envelope.signed_ns) / 1e6
        if abs(age_ms) > self._max_age_ms:
            return Refusal("stale", f"signed {age_ms:.0f} ms before the tick, allowed are {self._max_age_ms:g}")
        if -age_ms > self._max_ahead_ms:
            return Refusal("clock ahead", f"signed {-age_ms:.0f} ms after the tick, allowed are {self._max_ahead_ms:g}")
        if not self._window(envelope.key_id).is_new(envelope.sequence):
            return Refusal("replayed", f"sequence {envelope.sequence} has been used, or is from before the run")
        return None

    def _window(self, key_id: bytes) -> ReplayWindow:
        """Return the window of a key on the allow list: there are never more windows than the list has had keys."""
        since = self._allowed.since_ns - round(CLOCK_TOLERANCE_S * 1e9)
        return self._windows.setdefault(key_id, ReplayWindow(max(since, self._allowed.used.get(key_id, since))))
