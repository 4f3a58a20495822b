"""Agent types from a command line: one for all agents, several in turn, or an assignment file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from heal.agent_types import TypesOf, in_order
from heal.alliance import Alliance, AllianceError
from heal.datasets.assignment import AssignedSource, read_assignment
from heal.types import SceneSource


def split_names(text: str) -> list[str]:
    """Split names at their commas, without spaces around them."""
    return [name.strip() for name in text.split(",")]


def base_type(alliance: Alliance) -> str:
    """Return the type that the base was trained with, or the alliance's first type if the training record names none.

    Raises:
        AllianceError: no type of the alliance is aligned to its base.
    """
    names = alliance.agent_names
    if not names:
        raise AllianceError(f"{alliance.path}: no agent type is aligned to its base; `heal train agent` aligns one")
    return next((name for name in alliance.card.training.agent_types if name in names), names[0])


def require_types(names: Sequence[str], alliance: Alliance) -> None:
    """Open every agent type, so that a missing type is reported before anything runs.

    Raises:
        AllianceError: the alliance lacks a type.
    """
    for name in names:
        alliance.agent(name)


def parse_types(text: str | None, alliance: Alliance, source: SceneSource) -> TypesOf:
    """Return the type assignment that `--types` describes.

    Args:
        text: types separated by commas, or the path of an assignment file (.json); None for the base's own type.
        alliance: where the types are from; every type of `text` is opened.
        source: the scenes whose agents get the types.

    Raises:
        AllianceError: the alliance lacks a type.
        DatasetError: the assignment file cannot be read.
    """
    if text and text.endswith(".json"):
        choices = {name: alliance.agent(name).sensor for name in alliance.agent_names}
        return AssignedSource(source, read_assignment(Path(text)), choices).types_of
    names = split_names(text) if text else [base_type(alliance)]
    require_types(names, alliance)
    return in_order(names)
