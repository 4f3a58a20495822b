"""The Ray that a run uses, a local one or a cluster, and the machines on which actors are placed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from heal.agents.deployment import Deployment
from heal.agents.options import RunOptions
from heal.errors import UserError

OBJECT_STORE_BYTES = 512 * 2**20
# So small a share that any number of actors fits on one machine: they take turns on the cores, as the threads of one program do.
ACTOR_CPUS = 0.01
# Ray counts in ten-thousandths.
_ROUNDING = 1e-3
DIED_ERRORS = (
    ray.exceptions.RayActorError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.ObjectLostError,
)


def start_ray(address: str | None = None, metrics_port: int | None = None) -> bool:
    """Join a cluster, or start a local Ray without its log output.

    Args:
        address: of a running cluster; None starts a Ray for this process.
        metrics_port: the port on which a local Ray serves its metrics, 0 for any free port; None collects no metrics, which saves
            some 5 % of a small machine.

    Returns:
        Whether Ray was started or joined; False if Ray is running in this process already.
    """
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_metrics_report_interval_ms", "2000")
    if address is not None:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        return True
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=OBJECT_STORE_BYTES,
        _metrics_export_port=metrics_port or None,
        # Without task events, as Ray's control process would remember every call and grow with the run.
        _system_config={"enable_metrics_collection": metrics_port is not None, "task_events_report_interval_ms": 0},
    )
    return True


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


class Placer:
    """Chooses the machine of the cluster on which each actor is started."""

    def __init__(self, deployment: Deployment) -> None:
        """Place actors as a deployment says."""
        self._deployment = deployment
        self._placed = 0

    def for_agents(self) -> dict[str, Any]:
        """Return Ray's options for the next actor with agents."""
        kind = self._deployment.placement
        strategy: Any = {"pack": "DEFAULT", "spread": "SPREAD"}.get(kind) or self._next_machine()
        return {"num_cpus": ACTOR_CPUS, "num_gpus": self._deployment.gpus_per_actor, "scheduling_strategy": strategy}

    def for_node(self) -> dict[str, Any]:
        """Return Ray's options for a fusion node: on the driver's machine, if that has the resources."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        return {"num_cpus": ACTOR_CPUS, "num_gpus": self._deployment.gpus_per_node, "scheduling_strategy": here}

    def _next_machine(self) -> NodeAffinitySchedulingStrategy:
        here = ray.get_runtime_context().get_node_id()
        machines = sorted((node["NodeID"] for node in ray.nodes() if node["Alive"]), key=lambda name: (name != here, name))
        machine = machines[self._placed % len(machines)]
        self._placed += 1
        # Soft, so that an actor whose machine is lost restarts on another machine.
        return NodeAffinitySchedulingStrategy(machine, soft=True)
