"""Actors for which there is no room are refused in one line, instead of being waited for."""

from __future__ import annotations

import pytest

from heal.agents.deployment import Deployment
from heal.agents.faults import Fault
from heal.agents.network.network import PerfectNetwork
from heal.agents.on_ray.placement import Demand, Placer, has_room, memory_room, node_demand, require_room, warn_of_memory
from heal.agents.options import RunOptions
from heal.errors import UserError
from tests.agents.tiny_run import TinyAlliance, TinySource, by_id

NONE = Demand("fusion nodes", 1, 0)
LAPTOP = {"CPU": 2.0}
SERVER = {"CPU": 16.0, "GPU": 2.0}


@pytest.mark.parametrize(
    ("gpus", "fit"),
    [(0, 1800), (0.1, 20), (0.25, 8), (0.3333, 6), (0.5, 4), (0.6, 2), (1, 2), (2, 1)],
)
def test_as_many_actors_have_room_as_ray_would_place(gpus: float, fit: int) -> None:
    machines = [LAPTOP, SERVER]
    assert has_room(machines, [Demand("agents", fit, gpus), NONE])
    assert not has_room(machines, [Demand("agents", fit + 1, gpus), NONE])


def test_agents_and_fusion_nodes_share_the_gpus() -> None:
    whole = Demand("fusion nodes", 1, 1)
    assert has_room([SERVER], [Demand("agents", 2, 0.5), whole]) and not has_room([SERVER], [Demand("agents", 3, 0.5), whole])
    # Four GPUs on two machines hold no actor with three.
    assert not has_room([SERVER, SERVER], [Demand("agents", 1, 3), NONE])


def test_the_error_says_in_one_line_what_is_asked_for_and_what_there_is() -> None:
    with pytest.raises(UserError) as caught:
        require_room([LAPTOP], [Demand("agents", 3, 1), NONE])
    text = str(caught.value)
    assert "3 actors with agents at 1 GPU each and 1 actor with fusion nodes at 0 GPU each" in text
    assert "0 GPUs and 2 cores on 1 machine" in text and "\n" not in text
    require_room([SERVER], [NONE])


def test_without_regions_there_is_one_actor_with_fusion_nodes() -> None:
    deployment = Deployment(fusion_nodes=3, gpus_per_node=0.5)
    assert node_demand(deployment, RunOptions()) == Demand("fusion nodes", 1, 0.5)
    assert node_demand(deployment, RunOptions(region_m=50.0)) == Demand("fusion nodes", 3, 0.5)


def test_parts_of_several_gpus_are_refused() -> None:
    with pytest.raises(UserError, match="a part of one GPU"):
        Deployment(gpus_per_actor=1.5)
    assert Deployment(gpus_per_actor=2.0, gpus_per_node=0.5).gpus_per_actor == 2


def test_as_many_actors_have_memory_as_each_machine_holds(caplog: pytest.LogCaptureFixture) -> None:
    """Two machines of 1.5 GiB hold two actors of 1 GiB, not three."""
    machines, deployment = [{**LAPTOP, "memory": 1.5 * 2**30}] * 2, Deployment(actor_memory_mib=1024)
    assert memory_room(machines, deployment) == 2
    assert memory_room(machines, Deployment(actor_memory_mib=0)) is None
    warn_of_memory(machines, deployment, 2)
    warn_of_memory(machines, Deployment(actor_memory_mib=0), 1000)
    assert not caplog.records
    warn_of_memory(machines, deployment, 3)
    [record] = caplog.records
    assert "3 actors need some 3.0 GiB of memory, and 3.0 GiB are left" in record.message and "\n" not in record.message


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_actors_without_memory_for_their_reservations_are_warned_of_and_started(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of two actors asks for three quarters of this machine's memory: the fusion node reserves it, the agents do without."""
    from heal.agents.on_ray import agent_pool, cluster
    from heal.agents.on_ray.runtime import RayRuntime

    each, reserved = int(0.75 * agent_pool.machines()[0]["memory"] / 2**20), []
    options_of = Placer.for_agents
    monkeypatch.setattr(Placer, "for_agents", lambda self, reserves: reserved.append(reserves) or options_of(self, reserves))
    deployment = Deployment(actor_memory_mib=each, agents_per_actor=4)
    with RayRuntime(
        TinyAlliance(), TinySource(), by_id(dict.fromkeys("bcd", "m1") | {"ego": "m1"}), deployment=deployment
    ) as runtime:
        assert [result.faults for result in runtime.run(range(2))] == [(), ()]
        free = cluster.ray.available_resources()["memory"] / 2**20
    assert reserved == [False] and free < each
    assert [record.message for record in caplog.records if "2 actors need some" in record.message]


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_an_agent_that_comes_later_and_has_no_room_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room for three actors of each kind: ego, b and c have them when d comes, whose type is another."""
    from heal.agents.on_ray import agent_pool
    from heal.agents.on_ray.runtime import RayRuntime

    monkeypatch.setattr(agent_pool, "machines", lambda: [{"CPU": 0.03}])
    source, types = TinySource(ticks_each=2), by_id({"ego": "m1", "b": "m1", "c": "m1", "d": "m2"})
    with RayRuntime(TinyAlliance(), source, types, PerfectNetwork(), RunOptions(), Deployment()) as runtime:
        results = list(runtime.run(range(len(source))))
    assert [(result.tick, fault) for result in results for fault in result.faults] == [(2, Fault("agent not placed", "d"))]
    unsent = [(result.tick, record.agent_id, record.kind) for result in results for record in result.messages if record.reason]
    assert unsent == [(2, "d", "not sent: agent not placed"), (3, "d", "not sent: agent not placed")]


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize(
    ("deployment", "asked"),
    [(Deployment(gpus_per_actor=1000), "1 actor with agents at 1000 GPU"), (Deployment(gpus_per_node=1000), "nodes at 1000 GPU")],
)
def test_a_run_without_room_is_refused_before_it_begins(deployment: Deployment, asked: str) -> None:
    from heal.agents.on_ray.runtime import RayRuntime

    types = by_id({"ego": "m1", "b": "m2", "c": "m1", "d": "m2"})
    with pytest.raises(UserError, match=f"no room.*{asked}"):
        RayRuntime(TinyAlliance(), TinySource(), types, PerfectNetwork(), RunOptions(), deployment)
