"""What breaks costs its own messages and ticks, and nothing else; it comes back; all of it is counted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from heal.agents.deployment import Deployment, PlannedFault
from heal.agents.local_runtime import LocalRuntime
from heal.agents.network.network import PerfectNetwork
from heal.agents.options import RunOptions
from heal.agents.records import Fault, TickResult
from tests.agents.tiny_run import TinyAlliance, TinySource, Without, by_id

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
    first = min(tick for tick, _ in gone)
    # The tick before may have been in its hands when it was killed.
    assert first in (2, 3)
    assert gone == {(tick, "b") for tick in range(first, first + 3)}
    assert faults_of(results) == [Fault("agent crashed", "b"), Fault("agent rejoined", "b")]
    reasons = [record.reason for result in results for record in result.messages if record.status == "lost"]
    assert set(reasons) == {"agent crashed", "agent restarting"}
    assert_as_if_absent(results, options)


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
    assert away and away == list(range(away[0], away[-1] + 1)) and set(away) <= {3, 4, 5, 6}
    assert [fault.kind for fault in faults_of(results)] == [kind, "fusion node restarted"]
    for result, expected in zip(results, run_local(set()), strict=True):
        if result.tick in away:
            assert len(result.detections) == 0
            assert {record.reason for record in result.messages} == {"fusion node away"}
        else:
            assert same_boxes(result, expected) and missing([result]) == set()


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
