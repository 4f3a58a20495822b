"""Which agent of a scene has which agent type."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from heal.types import Float64, SceneOutline

MAX_AGENTS = 5


def select_agents(
    agent_ids: Sequence[str],
    types: Mapping[str, str],
    ego_types: Collection[str] = (),
    max_agents: int = MAX_AGENTS,
    *,
    compat_heal: bool = False,
) -> tuple[str, ...]:
    """The agents that take part, the ego first.

    Args:
        agent_ids: all agents of the scene, in the data set's order.
        types: agent type of each; more agents than those of the scene do no harm.
        ego_types: types that the ego may have, where that matters. The first agent with one becomes the ego, the others keep their
            order; without such an agent the order stays.
        max_agents: at most so many, the ego included.
        compat_heal: choose as the reference does: the first in the order of `types` becomes the ego, also a roadside unit before
            the vehicles, and the others follow sorted by name.
    """
    order = list(agent_ids)
    if ego_types and types.get(order[0]) not in ego_types:
        candidates = [name for name in (types if compat_heal else order) if types.get(name) in ego_types]
        if candidates:
            order = sorted(types) if compat_heal else order
            order = [candidates[0], *(name for name in order if name != candidates[0])]
    return tuple(order[:max_agents])


def within_range(agent_ids: Sequence[str], world_SE3_agents: Sequence[Float64], comm_range_m: float) -> tuple[str, ...]:
    """The agents no further from the first, the ego, than `comm_range_m`.

    Args:
        agent_ids: N agents.
        world_SE3_agents: N poses (4, 4) as the agents believe them to be, in the same order; x and y alone count.
        comm_range_m: metres; the ego always stays.
    """
    places = np.stack([pose[:2, 3] for pose in world_SE3_agents])
    near = np.linalg.norm(places - places[0], axis=1) <= comm_range_m
    return tuple(name for name, keep in zip(agent_ids, near, strict=True) if keep)


def draw_types(
    agent_ids: Sequence[str], ego_types: Sequence[str], shares: Mapping[str, float], rng: np.random.Generator
) -> dict[str, str]:
    """Types at random for a training scene: the ego's, who is the first, evenly out of `ego_types`, the others' by `shares`.

    Args:
        agent_ids: the agents, the ego first.
        ego_types: types that the ego may have.
        shares: of each type among the others, in any unit.
        rng: the draw.
    """
    names, weights = list(shares), np.array(list(shares.values()), np.float64)
    others = rng.choice(len(names), len(agent_ids) - 1, p=weights / weights.sum())
    ego_type = ego_types[int(rng.integers(len(ego_types)))]
    return {agent_ids[0]: ego_type, **{agent: names[int(i)] for agent, i in zip(agent_ids[1:], others, strict=True)}}


TypesOf: TypeAlias = Callable[[SceneOutline], Mapping[str, str]]
"""A scene's agents (ids) and their types; agents that are left out take no part."""


def everyone(agent_type: str) -> TypesOf:
    """All agents have one type."""
    return lambda outline: dict.fromkeys(outline.agent_ids, agent_type)


def in_order(agent_types: Sequence[str]) -> TypesOf:
    """The ego has the first type, the others the next ones in their order, over and over."""

    def types_of(outline: SceneOutline) -> Mapping[str, str]:
        return {agent_id: agent_types[i % len(agent_types)] for i, agent_id in enumerate(outline.ego_first)}

    return types_of


def joining(types_of: TypesOf, join_ns: Mapping[str, int]) -> TypesOf:
    """Some agents join later: `join_ns` says from which time on they take part."""

    def there(outline: SceneOutline) -> Mapping[str, str]:
        types = types_of(outline)
        return {agent_id: kind for agent_id, kind in types.items() if outline.timestamp_ns >= join_ns.get(agent_id, 0)}

    return there
