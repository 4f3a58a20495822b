"""What a run's faults are called, wherever they are shown."""

from __future__ import annotations

from heal.agents.records import Fault

FUSION_NODE = "fusion node"


def is_recovery(fault: Fault) -> bool:
    """Something came back, rather than broke."""
    return fault.kind in ("agent rejoined", "fusion node restarted")


def owner_of(fault: Fault) -> str:
    """Whose fault it is."""
    return fault.agent_id or FUSION_NODE


def fault_words(fault: Fault) -> str:
    """A fault in one line."""
    return f"{fault.kind}: {fault.agent_id}" if fault.agent_id else fault.kind
