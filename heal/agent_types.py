"""Choose the agents that take part in a scene, and assign an agent type to each."""

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
    """Return the ids of the agents that take part, the ego's first.

    Args:
        agent_ids: all agents of the scene, in the data set's order.
        types: agent type of every agent; agents that are not in the scene are ignored.
        ego_types: types that the ego may have; empty for any. If the first agent has another type, the first agent with one of
            these types becomes the ego and the others keep their order; without such an agent the order stays.
        max_agents: number of agents at most, the ego included.
        compat_heal: choose as HEAL does: the first agent with such a type in the order of `types` becomes the ego, even a roadside
            unit before the vehicles, and the others follow sorted by name.
    """
    order = list(agent_ids)
    if ego_types and types.get(order[0]) not in ego_types:
        candidates = [name for name in (types if compat_heal else order) if types.get(name) in ego_types]
        if candidates:
            order = sorted(types) if compat_heal else order
            order = [candidates[0], *(name for name in order if name != candidates[0])]
    return tuple(order[:max_agents])


def within_range(agent_ids: Sequence[str], world_SE3_agents: Sequence[Float64], comm_range_m: float) -> tuple[str, ...]:
    """Return the ids of the agents at most `comm_range_m` away from the first agent, the ego, which is always included.

    Args:
        agent_ids: N agents.
        world_SE3_agents: N measured poses (4, 4), in the same order; only x and y count.
        comm_range_m: range of communication, metres.
    """
    xy = np.stack([pose[:2, 3] for pose in world_SE3_agents])
    near = np.linalg.norm(xy - xy[0], axis=1) <= comm_range_m
    return tuple(name for name, keep in zip(agent_ids, near, strict=True) if keep)


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
