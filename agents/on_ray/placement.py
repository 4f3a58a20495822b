"""The machines of a cluster: whether they have room for all actors of a run, and on which machine each actor is started."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from heal.agents.deployment import Deployment
from heal.agents.on_ray.cluster import ACTOR_CPUS, MIB
from heal.agents.options import RunOptions
from heal.errors import UserError

# Ray counts in ten-thousandths.
_ROUNDING = 1e-3
GIB = 2**30


@dataclass(frozen=True)
class Demand:
    """Actors of one kind that are to be placed.

    Attributes:
        kind: "agents" or "fusion nodes".
        actors: how many.
        gpus: GPUs of each.
    """

    kind: str
    actors: int
    gpus: float

    def __str__(self) -> str:
        """Return the demand in words."""
        return f"{self.actors} {'actor' if self.actors == 1 else 'actors'} with {self.kind} at {self.gpus:g} GPU each"


def node_demand(deployment: Deployment, options: RunOptions) -> Demand:
    """Return the actors with fusion nodes of a run; without regions there is a single one."""
    actors = 1 if options.region_m is None else deployment.fusion_nodes
    return Demand("fusion nodes", actors, deployment.gpus_per_node)


def machines() -> list[dict[str, float]]:
    """Return the resources of every machine of the cluster, whether or not they are in use."""
    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def has_room(resources: Sequence[Mapping[str, float]], demands: Sequence[Demand]) -> bool:
    """Return whether machines with these resources can hold all actors; Ray would let an actor without room wait for ever."""
    alone = all(demand.actors <= sum(_places(machine, demand.gpus) for machine in resources) for demand in demands)
    together = sum(demand.actors * demand.gpus for demand in demands)
    return alone and together <= sum(machine.get("GPU", 0.0) for machine in resources) + _ROUNDING


def require_room(resources: Sequence[Mapping[str, float]], demands: Sequence[Demand]) -> None:
    """Raise a UserError that says what is asked for and what there is, if machines with these resources cannot hold all actors."""
    if has_room(resources, demands):
        return
    gpus, cores = (sum(machine.get(kind, 0.0) for machine in resources) for kind in ("GPU", "CPU"))
    count = f"{len(resources)} {'machine' if len(resources) == 1 else 'machines'}"
    raise UserError(
        f"no room for all actors: asked for are {' and '.join(map(str, demands))}; there are {gpus:g} GPUs and {cores:g} cores on "
        f"{count}; lower deployment.gpus_per_actor or gpus_per_node (0 computes on CPUs), or raise deployment.agents_per_actor"
    )


def _places(machine: Mapping[str, float], gpus: float) -> int:
    """Return how many actors with so many GPUs fit on a machine; actors share a GPU, but an actor has no parts of several."""
    by_cores = int(machine.get("CPU", 0.0) / ACTOR_CPUS + _ROUNDING)
    if not gpus:
        return by_cores
    there = machine.get("GPU", 0.0)
    by_gpus = int(there + _ROUNDING) * int(1 / gpus + _ROUNDING) if gpus < 1 else int(there / gpus + _ROUNDING)
    return min(by_cores, by_gpus)


def memory_room(resources: Sequence[Mapping[str, float]], deployment: Deployment) -> int | None:
    """Return for how many actors machines with these resources have memory; None if no memory is reserved."""
    each = deployment.actor_memory_mib * MIB
    return sum(int(machine.get("memory", 0.0) / each) for machine in resources) if each else None


def reserves_memory(resources: Sequence[Mapping[str, float]], deployment: Deployment, actors: int) -> bool:
    """Return whether actors reserve their memory: if memory is to be reserved, and the machines have it for so many actors."""
    room = memory_room(resources, deployment)
    return room is not None and actors <= room


def warn_of_memory(resources: Sequence[Mapping[str, float]], deployment: Deployment, actors: int) -> None:
    """Say in one line that the actors of a run will not all fit into the memory of the machines, if that is so."""
    room = memory_room(resources, deployment)
    if room is None or actors <= room:
        return
    needed, left = actors * deployment.actor_memory_mib * MIB, sum(machine.get("memory", 0.0) for machine in resources)
    logging.getLogger(__name__).warning(
        f"{actors} actors need some {needed / GIB:.1f} GiB of memory, and {left / GIB:.1f} GiB are left: the system may end some "
        "of them; raise deployment.agents_per_actor, or use more machines"
    )


class Placer:
    """Chooses the machine of the cluster on which each actor is started."""

    def __init__(self, deployment: Deployment) -> None:
        """Place actors as a deployment says."""
        self._deployment = deployment
        self._placed = 0

    def for_agents(self, reserves: bool) -> dict[str, Any]:
        """Return Ray's options for the next actor with agents, which reserves its memory or none."""
        kind = self._deployment.placement
        strategy: Any = {"pack": "DEFAULT", "spread": "SPREAD"}.get(kind) or self._next_machine()
        return self._options(self._deployment.gpus_per_actor, strategy, reserves)

    def for_node(self, several: bool, reserves: bool) -> dict[str, Any]:
        """Return Ray's options for a fusion node: on the driver's machine if that has the resources, one of several as an agent."""
        if several:
            return {**self.for_agents(reserves), "num_gpus": self._deployment.gpus_per_node}
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        return self._options(self._deployment.gpus_per_node, here, reserves)

    def _options(self, gpus: float, strategy: Any, reserves: bool) -> dict[str, Any]:
        memory = self._deployment.actor_memory_mib * MIB if reserves else None
        return {"num_cpus": ACTOR_CPUS, "num_gpus": gpus, "memory": memory, "scheduling_strategy": strategy}

    def _next_machine(self) -> NodeAffinitySchedulingStrategy:
        here = ray.get_runtime_context().get_node_id()
        machines = sorted((node["NodeID"] for node in ray.nodes() if node["Alive"]), key=lambda name: (name != here, name))
        machine = machines[self._placed % len(machines)]
        self._placed += 1
        # Soft, so that an actor whose machine is lost restarts on another machine.
        return NodeAffinitySchedulingStrategy(machine, soft=True)
