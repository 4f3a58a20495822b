"""Agent types from a command line: one for all agents, several in turn, or an assignment file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from heal.agent_types import TypesOf, in_order
from heal.alliance import Alliance
from heal.datasets.assignment import AssignedSource, read_assignment
from heal.types import SceneSource


def base_type(alliance: Alliance) -> str:
    """The type that an alliance's base was trained with, or its first type if the record does not say."""
    return next((name for name in alliance.card.training.agent_types if name in alliance.agent_names), alliance.agent_names[0])


def parse_types(text: str | None, alliance: Alliance, source: SceneSource) -> TypesOf:
    """What `--types` means; every type named is opened, so that a wrong one is told before anything runs.

    Raises:
        AllianceError: the alliance has no such type.
        DatasetError: the assignment file cannot be read.
    """
    if text and text.endswith(".json"):
        choices = {name: alliance.agent(name).sensor for name in alliance.agent_names}
        return AssignedSource(source, read_assignment(Path(text)), choices).types_of
    return in_turn([name.strip() for name in text.split(",")] if text else [base_type(alliance)], alliance)


def in_turn(names: Sequence[str], alliance: Alliance) -> TypesOf:
    """The ego gets the first type, the others the next ones; AllianceError if the alliance lacks one."""
    for name in names:
        alliance.agent(name)
    return in_order(names)
