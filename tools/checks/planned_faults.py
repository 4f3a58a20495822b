"""Planned faults that could hit nothing are refused before a run begins: their process, their agent or their tick is not there."""

from __future__ import annotations

from collections.abc import Sequence

from heal.agent_types import TypesOf
from heal.agents.deployment import NODE_TARGET, PlannedFault
from heal.errors import UserError
from heal.types import SceneSource


def require_targets(
    faults: Sequence[PlannedFault], runtime: str, source: SceneSource, ticks: Sequence[int], types_of: TypesOf
) -> None:
    """Check that every planned fault names a tick of the run and an agent of that tick, or the fusion node.

    Whether the agent takes part in the run, by its distance from the ego, is only known in the tick.

    Args:
        faults: the planned faults.
        runtime: "ray" or "local".
        source: the scenes.
        ticks: indices of the scenes to run.
        types_of: the agents of a scene and their types.

    Raises:
        UserError: the fault, with the ticks or agents that there are.
    """
    if faults and runtime == "local":
        raise UserError(f"fault {_text(faults[0])}: --runtime local has no processes that could break; use --runtime ray")
    for fault in faults:
        if fault.tick not in ticks:
            raise UserError(f"fault {_text(fault)}: no tick {fault.tick} in this run, whose ticks are {ticks[0]} to {ticks[-1]}")
        there = () if fault.node is not None else tuple(types_of(source.outline(fault.tick)))
        if fault.node is None and fault.who not in there:
            raise UserError(
                f"fault {_text(fault)}: no agent {fault.who} in tick {fault.tick}; there are {', '.join(there)}, and {NODE_TARGET} "
                "for the fusion node"
            )


def _text(fault: PlannedFault) -> str:
    """Return a planned fault as it is written on the command line."""
    return f"{fault.kind}:{fault.who}@{fault.tick}"
