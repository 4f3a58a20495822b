"""What breaks costs its own messages and ticks, and nothing else; it comes back; all of it is counted."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from heal.agents.agent import AgentHost
from heal.agents.deployment import Deployment, PlannedFault
from heal.agents.faults import Fault
from heal.agents.local_runtime import LocalRuntime
from heal.agents.message_records import MessageCounts
from heal.agents.network.network import PerfectNetwork
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.agents.tick import TickCoordinator
from heal.agents.tick_plan import AgentStep
from tests.agents.tiny_run import TinyAlliance, TinySource, Trap, Without, by_id

ALLIANCE = TinyAlliance()
SOURCE = TinySource(scenarios=(("ego", "b", "c"),), ticks_each=12)
TYPES = by_id({"ego": "m1", "b": "m2", "c": "m1"})
DROP = RunOptions(late="drop")


def run_ray(faults: str, deployment: Deployment | None = None, options: RunOptions = DROP) -> list[TickResult]:
    from heal.agents.on_ray.runtime import RayRuntime

    planned = replace(deployment or Deployment(restart_ms=300), faults=PlannedFault.parse(faults))
    with RayRuntime(ALLIANCE, SOURCE, TYPES, PerfectNetwork(), options, planned) as runtime:
        return list(runtime.run(range(len(SOURCE))))


def run_local(
    gone: set[tuple[int, str]], options: RunOptions = DROP, source: TinySource = SOURCE, ticks: int = len(SOURCE)
) -> list[TickResult]:
    with LocalRuntime(ALLIANCE, source, TYPES, Without(frozenset(gone)), options) as runtime:
        return list(runtime.run(range(ticks)))


def missing(results: list[TickResult]) -> set[tuple[int, str]]:
    return {(result.tick, record.agent_id) for result in results for record in result.messages if record.status != "used"}


def faults_of(results: list[TickResult]) -> list[Fault]:
    return [fault for result in results for fault in result.faults]


def same_boxes(one: TickResult, other: TickResult) -> bool:
    return torch.equal(one.detections.corners, other.detections.corners) and torch.equal(
        one.ground_truth.ids, other.ground_truth.ids
    )


def assert_as_if_absent(results: list[TickResult], options: RunOptions = DROP, source: TinySource = SOURCE) -> None:
    expected = run_local(missing(results), options, source, len(results))
    assert all(same_boxes(one, other) for one, other in zip(results, expected, strict=True))
    assert [result.held for result in results] == [result.held for result in expected]


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("options", [DROP, RunOptions(late="weigh", split="pyramid")])
def test_a_crashed_agent_is_away_for_its_restart_and_rejoins(options: RunOptions) -> None:
    results = run_ray("crash:b@3", options=options)
    gone = missing(results)
    assert gone == {(tick, "b") for tick in (3, 4, 5)}
    assert faults_of(results) == [Fault("agent crashed", "b"), Fault("agent rejoined", "b")]
    reasons = [record.reason for result in results for record in result.messages if record.status == "not sent"]
    assert set(reasons) == {"agent crashed", "agent restarting"}
    counts = MessageCounts.of(record for result in results for record in result.messages)
    assert (counts.sent, counts.lost, counts.not_sent) == (2 * len(SOURCE) - 3, 0, 3)
    assert_as_if_absent(results, options)


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("pipeline", [1, 2])
def test_a_fusion_node_that_dies_unplanned_returns_in_the_first_tick_that_it_fuses(pipeline: int) -> None:
    import ray

    from heal.agents.on_ray.runtime import RayRuntime

    results: list[TickResult] = []
    with RayRuntime(ALLIANCE, SOURCE, TYPES, PerfectNetwork(), DROP, Deployment(pipeline=pipeline)) as runtime:
        for result in runtime.run(range(len(SOURCE))):
            results.append(result)
            if result.tick == 3:
                ray.kill(runtime._nodes.process(0).actor)
    away = [result.tick for result in results if result.latency is None]
    assert away and away == list(range(away[0], away[-1] + 1)) and away[-1] < len(SOURCE) - 1
    assert [(result.tick, fault) for result in results for fault in result.faults] == [
        (away[0], Fault("fusion node crashed")),
        (away[-1] + 1, Fault("fusion node restarted")),
    ]


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_agents_of_one_actor_crash_and_come_back_together() -> None:
    shared = by_id({"ego": "m1", "b": "m2", "c": "m2"})
    from heal.agents.on_ray.runtime import RayRuntime

    deployment = Deployment(agents_per_actor=2, restart_ms=200, faults=PlannedFault.parse("crash:c@4"))
    with RayRuntime(ALLIANCE, SOURCE, shared, PerfectNetwork(), DROP, deployment) as runtime:
        results = list(runtime.run(range(len(SOURCE))))
    assert {fault.agent_id for fault in faults_of(results) if fault.kind == "agent crashed"} == {"b", "c"}
    ticks = {agent_id: [tick for tick, name in sorted(missing(results)) if name == agent_id] for agent_id in ("b", "c")}
    assert ticks["b"] == ticks["c"] and len(ticks["b"]) == 2


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_an_agent_that_hangs_is_ended_and_rejoins() -> None:
    results = run_ray("hang:b@3", Deployment(restart_ms=200, hang_s=3.0))
    assert missing(results) == {(3, "b"), (4, "b")}
    assert faults_of(results) == [Fault("agent hung", "b"), Fault("agent rejoined", "b")]
    assert_as_if_absent(results)


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_an_agent_that_appears_and_hangs_at_its_start_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from heal.agents.on_ray import agent_pool
    from heal.agents.on_ray.runtime import RayRuntime

    monkeypatch.setattr(agent_pool, "START_S", 10.0)
    source = Trap(scenarios=(("ego", "b"), ("ego", "b", "c")), file=tmp_path / "trap")
    results: list[TickResult] = []
    with RayRuntime(ALLIANCE, source, TYPES, PerfectNetwork(), DROP, Deployment(hang_s=10.0, restart_ms=200)) as runtime:
        for result in runtime.run(range(len(source))):
            results.append(result)
            if result.tick == 0:
                source.file.touch()
    faults, gone = faults_of(results), missing(results)
    # A busy machine may not start it again in time either, which is a crash.
    assert faults[0] == Fault("agent hung", "c") and faults[-1] == Fault("agent rejoined", "c")
    assert {agent_id for _, agent_id in gone} == {"c"} and min(gone) == (5, "c") and (9, "c") not in gone


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_an_agent_that_keeps_crashing_is_given_up() -> None:
    again = ",".join(f"crash:b@{tick}" for tick in range(1, 12))
    results = run_ray(again, Deployment(restart_ms=100, pipeline=0))
    assert [fault.kind for fault in faults_of(results)].count("agent crashed") == 3
    assert [record.reason for record in results[-1].messages if record.agent_id == "b"] == ["agent given up"]
    assert_as_if_absent(results)


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize(("fault", "kind"), [("crash:node@5", "fusion node crashed"), ("hang:node@5", "fusion node hung")])
def test_a_fusion_node_that_breaks_loses_the_ticks_it_was_away(fault: str, kind: str) -> None:
    results = run_ray(fault, Deployment(hang_s=3.0))
    away = [result.tick for result in results if result.latency is None]
    assert away == [5]
    assert [fault.kind for fault in faults_of(results)] == [kind, "fusion node restarted"]
    for result, expected in zip(results, run_local(set()), strict=True):
        if result.tick in away:
            assert len(result.detections) == 0
            assert {record.reason for record in result.messages} == {"fusion node away"}
        else:
            assert same_boxes(result, expected) and missing([result]) == set()


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_every_planned_fault_hits_its_own_tick_and_is_recorded_there_once() -> None:
    results = run_ray("crash:node@2,crash:node@3,crash:b@5,crash:node@7,crash:b@8", Deployment(restart_ms=100, pipeline=2))
    assert [result.tick for result in results if result.latency is None] == [2, 3, 7]
    crashes = [(result.tick, fault.kind) for result in results for fault in result.faults if not fault.is_recovery]
    agent, node = "agent crashed", "fusion node crashed"
    assert crashes == [(2, node), (3, node), (5, agent), (7, node), (8, agent)]
    assert {(tick, agent_id) for tick, agent_id in missing(results) if tick not in (2, 3, 7)} == {(5, "b"), (8, "b")}


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_a_planned_fault_whose_target_is_not_there_is_counted_and_the_run_goes_on() -> None:
    results = run_ray("crash:nobody@1,hang:9@2,crash:node:1@4", Deployment(fusion_nodes=2))
    assert len(results) == len(SOURCE) and missing(results) == set()
    assert [(result.tick, fault) for result in results for fault in result.faults] == [
        (1, Fault("planned fault missed", "nobody", "not in tick 1; there are ego, b, c")),
        (2, Fault("planned fault missed", "9", "not in tick 2; there are ego, b, c")),
        (4, Fault("planned fault missed", "node:1", "fusion nodes are counted from 0, and there are 1 (without run.region_m one)")),
    ]


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_messages_that_cannot_be_fetched_are_lost_and_the_node_does_not_look_hung() -> None:
    import ray

    from heal.agents.on_ray.node_pool import NodePool

    coordinator: TickCoordinator[Any] = TickCoordinator(ALLIANCE, SOURCE, TYPES, PerfectNetwork(), DROP)
    pool = NodePool(ALLIANCE, DROP, Deployment(hang_s=6.0))
    pool.wait_until_ready()
    never = ray.remote(num_cpus=0)(lambda: sleep(600))
    for tick in range(2):
        plan, steps = coordinator.plan(tick), []
        for agent_id, agent_type in plan.agent_types.items():
            [(message, report)] = AgentHost(coordinator.agent_setup(agent_type)).step([plan.agent_request(agent_id)])
            payload = ray.put(np.frombuffer(message, np.uint8)) if agent_id == "ego" or tick else never.remote()
            steps.append(AgentStep(report, payload))
        delivery = coordinator.deliver(plan, steps)
        result = coordinator.settle(plan, delivery, pool.outcomes(pool.ask(delivery.tasks)), pool.take_faults())
        expected = {(0, "b"), (0, "c")} if tick == 0 else set()
        assert result.faults == () and missing([result]) == expected
        reasons = {(record.status, record.reason) for record in result.messages if record.status != "used"}
        assert reasons == ({("lost", "lost with its machine")} if tick == 0 else set())
    pool.close()


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_an_idle_process_that_hangs_is_ended() -> None:
    import ray

    from heal.agents.on_ray.restarting import FaultKinds, RestartingActor

    class Idle:
        """An actor that nobody asks for anything; a class of the test, as its process cannot import this file."""

        def ready(self) -> int:
            return os.getpid()

    faults: list[Fault] = []
    kinds = FaultKinds("agent crashed", "agent hung", "agent rejoined")
    create = ray.remote(num_cpus=0)(Idle).remote
    actor = RestartingActor(create, kinds, lambda: ["b"], faults.append, hang_s=5.0, realtime=False)
    process = psutil.Process(ray.get(actor.actor.ready.remote()))
    assert actor.check_alive()
    process.suspend()
    assert not actor.check_alive() and actor.given_up and faults == []
    process.wait(60)


def test_planned_faults_are_read_and_bad_ones_named() -> None:
    assert PlannedFault.parse("crash:b@3, hang:node@10") == (PlannedFault("crash", "b", 3), PlannedFault("hang", "node", 10))
    for text in ("crash:b", "stop:b@3", "crash:@3", "crash:b@x"):
        with pytest.raises(ValueError, match="expected crash:AGENT@TICK"):
            PlannedFault.parse(text)


@pytest.mark.parametrize(
    "words",
    [{"placement": "anywhere"}, {"agents_per_actor": 0}, {"pipeline": 3}, {"hang_s": 0.0}, {"restart_ms": -1.0}],
)
def test_deployments_that_cannot_be_meant_are_refused(words: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|must not"):
        Deployment(**words)
