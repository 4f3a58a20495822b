"""Agent types from a command line: one for all agents, several in turn, or an assignment file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from heal.agent_types import MAX_AGENTS, TypesOf, in_order
from heal.alliance import Alliance, AllianceError
from heal.datasets.assignment import Assignment, EgoSource, read_assignment, scenario_of
from heal.datasets.dataset import Dataset
from heal.errors import UserError
from heal.types import SceneSource


def split_names(text: str | None) -> list[str]:
    """Split names at their commas, without spaces around them; no names without a text."""
    return [name.strip() for name in text.split(",")] if text else []


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


def parse_types(text: str | None, alliance: Alliance, source: SceneSource, ego_types: Collection[str] = ()) -> TypesOf:
    """Return the type assignment that `--types` describes.

    Args:
        text: types separated by commas, or the path of an assignment file (.json); None for the base's own type.
        alliance: where the types are from; every type of `text` is opened.
        source: the scenes whose agents get the types.
        ego_types: types that egos are to have, one of which an agent must have.

    Raises:
        AllianceError: the alliance lacks a type.
        DatasetError: the assignment file cannot be read.
        UserError: no agent has one of `ego_types`.
    """
    if text and text.endswith(".json"):
        assignment = read_assignment(Path(text))
    else:
        names = split_names(text) or [base_type(alliance)]
        require_types(names, alliance)
        if not ego_types and not isinstance(source, Dataset):
            return in_order(names)
        assignment = Assignment.in_order(_scenario_agents(source), names)
    _require_egos(assignment, ego_types)
    return assignment.types_of


def named_types(text: str | None, alliance: Alliance) -> list[str]:
    """Return the types that `--types` names, in its order and as often as it names them; those of an assignment file once each."""
    if text and text.endswith(".json"):
        return _types_of_file(read_assignment(Path(text)))
    return split_names(text) or [base_type(alliance)]


def _types_of_file(assignment: Assignment) -> list[str]:
    return list(dict.fromkeys(kind for agents in assignment.types.values() for kind in agents.values()))


def _scenario_agents(source: SceneSource) -> Mapping[str, Sequence[str]]:
    """Return the agents of every scenario, the ego first; a source that is no data set has a single one."""
    if isinstance(source, Dataset):
        return source.scenario_agents
    first = source.outline(0)
    return {scenario_of(first): first.ego_first}


def _require_egos(assignment: Assignment, ego_types: Collection[str]) -> None:
    """Raise UserError if some egos are wanted, and no agent has their types."""
    known = _types_of_file(assignment)
    if ego_types and not set(known) & set(ego_types):
        raise UserError(f"--ego-type: no agent is a {' or '.join(ego_types)}; --types gives them {', '.join(known)}")


def with_egos(source: SceneSource, types_of: TypesOf, ego_types: Collection[str]) -> SceneSource:
    """Return scenes whose egos have certain types, or the source itself if any type will do.

    A data set is cut to HEAL's number of agents after the choice of the ego.
    """
    return EgoSource(source, types_of, ego_types, MAX_AGENTS if isinstance(source, Dataset) else None) if ego_types else source
