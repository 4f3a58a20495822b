"""A run on several machines loses one: what was on it is away for its restart, everything else goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heal.agents.deployment import Deployment
from heal.agents.faults import Fault
from heal.agents.network.network import PerfectNetwork
from heal.agents.records import TickResult
from tests.agents.on_ray.test_faults import ALLIANCE, DROP, SOURCE, TYPES, assert_as_if_absent, faults_of, missing

# It takes Ray a second or two to end the processes of a machine that is gone; until then they answer.
LONG = replace(SOURCE, ticks_each=2000)


@pytest.mark.ray
def test_a_lost_machine_costs_what_was_on_it() -> None:
    import ray
    from ray.cluster_utils import Cluster

    from heal.agents.on_ray.runtime import RayRuntime

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    results: list[TickResult] = []
    try:
        deployment = Deployment(address=cluster.address, placement="per-node", restart_ms=300, hang_s=20)
        with RayRuntime(ALLIANCE, LONG, TYPES, PerfectNetwork(), DROP, deployment) as runtime:
            assert len(ray.nodes()) == 2
            for result in runtime.run(range(len(LONG))):
                results.append(result)
                if result.tick == 2:
                    cluster.remove_node(second, allow_graceful=False)
                if Fault("agent rejoined", "b") in result.faults:
                    break
    finally:
        ray.shutdown()
        cluster.shutdown()
    # The ego's actor is on the driver's machine, the next agent's on the other one.
    # It may be made anew on a machine of which Ray does not know yet that it is gone, and then once more.
    assert set(faults_of(results)) == {Fault("agent crashed", "b"), Fault("agent rejoined", "b")}
    assert {agent_id for _, agent_id in missing(results)} == {"b"} and missing(results[-1:]) == set()
    assert_as_if_absent(results, source=LONG)
