"""The Ray that a run uses, a local one or a cluster, and the machines on which actors are placed."""

from __future__ import annotations

import os
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from heal.agents.deployment import Deployment

OBJECT_STORE_BYTES = 512 * 2**20
# So small a share that any number of actors fits on one machine: they take turns on the cores, as the threads of one program do.
ACTOR_CPUS = 0.01
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
