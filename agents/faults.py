"""Faults of a run: processes that break and return, agents whose steps fail, and outside agents that fall silent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FaultKind = Literal[
    "agent crashed",
    "agent hung",
    "agent rejoined",
    "agent failed",
    "agent recovered",
    "agent not placed",
    "agent silent",
    "fusion node crashed",
    "fusion node hung",
    "fusion node restarted",
    "planned fault missed",
]
RECOVERIES: tuple[FaultKind, ...] = ("agent rejoined", "agent recovered", "fusion node restarted")


@dataclass(frozen=True)
class Fault:
    """A process that broke or returned, an agent whose step failed or succeeded again, or a planned fault that hit nothing.

    Attributes:
        kind: what happened.
        agent_id: the agent that it happened to; "" for a fusion node.
        detail: the error of a step that failed, or why a planned fault hit nothing; "" for other kinds.
    """

    kind: FaultKind
    agent_id: str = ""
    detail: str = ""

    @property
    def is_recovery(self) -> bool:
        """Whether a process or an agent has returned, rather than broken."""
        return self.kind in RECOVERIES

    @property
    def owner(self) -> str:
        """Whose process it is: the agent's id, or "fusion node"."""
        return self.agent_id or "fusion node"

    @property
    def description(self) -> str:
        """The fault in one line."""
        return ": ".join(part for part in (self.kind, self.agent_id, self.detail) if part)
