"""The suspicion of senders at a fusion node: a count for each sender, which grows with what it is caught at and fades with time."""

from __future__ import annotations

from heal.agents.records import FusionRequest
from heal.detection.guard import GuardConfig

_FORGIVEN = 0.01  # a count below this is forgotten
_SHUT_OUT, _LET_IN = 3.0, 1.0  # counts at which a sender is shut out, and let in again


class Suspicion:
    """How often senders have been caught. A suspect weighs less; who is caught again and again is shut out, and comes back."""

    def __init__(self, settings: GuardConfig) -> None:
        """Suspect no sender."""
        self._settings, self._sequence, self._now_ns = settings, "", 0
        self._counts: dict[str, float] = {}
        self._shut_out = set[str]()

    def begin_tick(self, request: FusionRequest) -> None:
        """Let all counts fade by the time since the last tick; forget all senders of another recording."""
        if request.sequence != self._sequence:
            self._counts.clear()
        elapsed_ms = max(request.timestamp_ns - self._now_ns, 0) / 1e6
        left = 0.5 ** (elapsed_ms / self._settings.forgive_ms)
        self._counts = {agent_id: count * left for agent_id, count in self._counts.items() if count * left >= _FORGIVEN}
        self._shut_out = {agent_id for agent_id in self._shut_out if self._counts.get(agent_id, 0.0) > _LET_IN}
        self._sequence, self._now_ns = request.sequence, request.timestamp_ns

    def factor(self, agent_id: str) -> float:
        """Return the factor on the weight of a sender; 1 for a sender without suspicion."""
        return float(self._settings.suspicion ** self._counts.get(agent_id, 0.0))

    def add(self, agent_id: str) -> None:
        """Count once more a sender that was caught."""
        self._counts[agent_id] = self._counts.get(agent_id, 0.0) + 1
        if self._counts[agent_id] >= _SHUT_OUT:
            self._shut_out.add(agent_id)

    def is_shut_out(self, agent_id: str) -> bool:
        """Return whether a sender has been caught so often that its messages are not read for a while."""
        return agent_id in self._shut_out
