"""Which agent of a scene has which agent type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from heal.types import SceneOutline

TypesOf: TypeAlias = Callable[[SceneOutline], Mapping[str, str]]
"""A scene's agents (ids) and their types; agents that are left out take no part."""


def everyone(agent_type: str) -> TypesOf:
    """All agents have one type."""
    return lambda outline: dict.fromkeys(outline.agent_ids, agent_type)


def in_order(agent_types: Sequence[str]) -> TypesOf:
    """The ego has the first type, the others the next ones in their order, over and over."""

    def types_of(outline: SceneOutline) -> Mapping[str, str]:
        return {agent_id: agent_types[i % len(agent_types)] for i, agent_id in enumerate(ego_first(outline))}

    return types_of


def by_id(agent_types: Mapping[str, str]) -> TypesOf:
    """Agents have their types in all scenes; in a scene with an agent that is not named, ValueError."""

    def types_of(outline: SceneOutline) -> Mapping[str, str]:
        unknown = [agent_id for agent_id in outline.agent_ids if agent_id not in agent_types]
        if unknown:
            raise ValueError(f"no agent type is assigned to agent {unknown[0]!r}; assigned are {sorted(agent_types)}")
        return {agent_id: agent_types[agent_id] for agent_id in outline.agent_ids}

    return types_of


def joining(types_of: TypesOf, join_ns: Mapping[str, int]) -> TypesOf:
    """Some agents join later: `join_ns` says from which time on they take part."""

    def there(outline: SceneOutline) -> Mapping[str, str]:
        types = types_of(outline)
        return {agent_id: kind for agent_id, kind in types.items() if outline.timestamp_ns >= join_ns.get(agent_id, 0)}

    return there


def ego_first(outline: SceneOutline) -> list[str]:
    """A scene's agents, the ego before the others."""
    return [outline.ego_id, *(agent_id for agent_id in outline.agent_ids if agent_id != outline.ego_id)]
