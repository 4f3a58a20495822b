"""Choose the agents that take part in a scene, and assign an agent type to each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from heal.types import Float64, SceneOutline

MAX_AGENTS = 5


def select_agents(
    agent_ids: Sequence[str], types: Mapping[str, str], ego_types: Collection[str] = (), max_agents: int | None = MAX_AGENTS
) -> tuple[str, ...]:
    """Return the ids of a scene's agents with an ego of certain types, the ego's first, as HEAL's `ego_modality` chooses them.

    Args:
        agent_ids: all agents of the scene, in the data set's order.
        types: agent type of every agent, in the order of the assignment; agents that are not in the scene are ignored.
        ego_types: types that the ego may have; empty for any. If the first agent has another type, the first agent of `types` with
            one of these types becomes the ego, even a roadside unit before the vehicles, and the others follow sorted by name;
            without such an agent the order stays.
        max_agents: number of agents at most, the ego included; None for all.
    """
    order = list(agent_ids)
    if ego_types and types.get(order[0]) not in ego_types:
        ego_id = next((name for name, kind in types.items() if name in order and kind in ego_types), None)
        order = order if ego_id is None else [ego_id, *sorted(name for name in order if name != ego_id)]
    return tuple(order[:max_agents])


def in_range(world_SE3_ego: Float64, world_SE3_agent: Float64, comm_range_m: float) -> bool:
    """Return whether an agent is at most `comm_range_m` metres away from the ego in the plane, by their poses (4, 4)."""
    return bool(np.linalg.norm((world_SE3_agent - world_SE3_ego)[:2, 3]) <= comm_range_m)


def draw_types(
    agent_ids: Sequence[str], ego_types: Sequence[str], shares: Mapping[str, float], rng: np.random.Generator
) -> dict[str, str]:
    """Draw agent types for a scene: the ego's uniformly from `ego_types`, the others' in proportion to `shares`.

    Args:
        agent_ids: the agents, the ego first.
        ego_types: types that the ego may have.
        shares: relative frequency of each type among the other agents.
        rng: the random generator.
    """
    names, weights = list(shares), np.array(list(shares.values()), np.float64)
    others = rng.choice(len(names), len(agent_ids) - 1, p=weights / weights.sum())
    ego_type = ego_types[int(rng.integers(len(ego_types)))]
    return {agent_ids[0]: ego_type, **{agent: names[int(i)] for agent, i in zip(agent_ids[1:], others, strict=True)}}


TypesOf: TypeAlias = Callable[[SceneOutline], Mapping[str, str]]
"""Function from a scene's outline to agent id -> agent type; agents that are left out take no part."""


def same_type(agent_type: str) -> TypesOf:
    """Assign the same type to all agents."""
    return lambda outline: dict.fromkeys(outline.agent_ids, agent_type)


def in_order(agent_types: Sequence[str]) -> TypesOf:
    """Assign the first type to the ego and the next types to the other agents in turn, starting over at the end."""
    return lambda outline: in_turn(outline.ego_first, agent_types)


def in_turn(agent_ids: Sequence[str], agent_types: Sequence[str]) -> dict[str, str]:
    """Assign types to agents one after the other, starting over after the last type."""
    return {agent_id: agent_types[i % len(agent_types)] for i, agent_id in enumerate(agent_ids)}
