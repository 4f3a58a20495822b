"""Who has signed a message that comes through the door of a run with keys; checked before it can take an honest one's place."""

from __future__ import annotations

import math
import threading

from heal.agents.door.bucket import TokenBucket
from heal.identity.allow_list import AllowedSenders
from heal.identity.verifier import BAD_SIGNATURE, Verified, Verifier

TOO_MANY_FORGERIES = "too many forgeries"
# A topic on which a bad signature has come is under attack for so long.
_ATTACK_S = 1.0


class SignatureCheck:
    """Checks signatures, and bounds the time that strangers can make this take.

    Whoever knows an agent's key id, which is in all of its messages, can send bytes whose signature has to be checked to find it
    bad. If they come faster than they may, messages on the topics on which they come are turned away unchecked, the agent's own
    among them; the topics of all other agents are as before.
    """

    def __init__(self, allowed: AllowedSenders, forgeries_per_s: float) -> None:
        """Make a check that has seen no message.

        Args:
            allowed: the senders; the caller lets it read its file again.
            forgeries_per_s: bad signatures that are checked in a second, on all topics together.
        """
        # How old a message may be is for the fusion node to say: it depends on the tick, and a door takes messages between ticks.
        self._verifier = Verifier(allowed, max_age_ms=math.inf, max_ahead_ms=math.inf)
        self._forgeries = TokenBucket(forgeries_per_s, max(1.0, forgeries_per_s))
        self._attacked_s: dict[str, float] = {}  # no more agents than the allow list has had
        self._checking = threading.Lock()

    def check(self, agent_id: str, content: bytes, now_s: float) -> int | str:
        """Return the sequence number of a message that an agent has signed; for any other bytes why they are turned away.

        Args:
            agent_id: the sender by its topic.
            content: the bytes.
            now_s: the time by the monotonic clock.
        """
        with self._checking:
            if self._is_attacked(agent_id, now_s) and not self._forgeries.has(1, now_s):
                return TOO_MANY_FORGERIES
            verified = self._verifier.verify(content, 0, agent_id)
            if isinstance(verified, Verified):
                return verified.envelope.sequence
            if verified.reason == BAD_SIGNATURE:
                self._attacked_s[agent_id] = now_s
                self._forgeries.take(1)
            return verified.reason

    def _is_attacked(self, agent_id: str, now_s: float) -> bool:
        return now_s - self._attacked_s.get(agent_id, -math.inf) < _ATTACK_S
