"""An agent whose own code fails loses its message of that tick and nothing else, and every failure is counted."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
import torch

from heal.agents.agent import AgentHost, AgentRequest
from heal.agents.failures import AgentFailure, Failures, step_each
from heal.agents.faults import Fault
from heal.agents.local_runtime import LocalRuntime
from heal.agents.network.network import PerfectNetwork
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.agents.runtime import open_runtime
from heal.agents.tick import TickCoordinator
from heal.agents.tick_plan import AgentStep, Missing
from heal.message.codec import FLOAT32
from tests.agents.tiny_run import TinyAlliance, TinySource, Without, by_id

ALLIANCE = TinyAlliance()
TYPES = by_id({"ego": "m1", "b": "m2", "c": "m1"})
OPTIONS = RunOptions(late="drop")
TEXT = "ValueError: the lens of b is dirty"
SOURCE = TinySource(scenarios=(("ego", "b", "c"),), ticks_each=6, dirty=(2, 3))


def run(source: TinySource, options: RunOptions = OPTIONS, name: str = "local") -> list[TickResult]:
    with open_runtime(name, ALLIANCE, source, TYPES, PerfectNetwork(), options) as runtime:
        return list(runtime.run(range(len(source))))


def assert_b_failed_in_two_ticks(results: list[TickResult]) -> None:
    lost = {(result.tick, record.agent_id): record for result in results for record in result.messages if record.status != "used"}
    assert set(lost) == {(2, "b"), (3, "b")}
    assert {(record.kind, record.detail) for record in lost.values()} == {("not sent: agent failed", TEXT)}
    assert [(result.tick, fault) for result in results for fault in result.faults] == [
        (2, Fault("agent failed", "b", TEXT)),
        (3, Fault("agent failed", "b", TEXT)),
        (4, Fault("agent recovered", "b")),
    ]
    network = Without(frozenset(lost))
    with LocalRuntime(ALLIANCE, replace(SOURCE, dirty=()), TYPES, network, OPTIONS) as runtime:
        for result, expected in zip(results, runtime.run(range(len(SOURCE))), strict=True):
            assert torch.equal(result.detections.corners, expected.detections.corners)
            assert torch.equal(result.ground_truth.ids, expected.ground_truth.ids)


def test_an_agents_error_is_a_fault_of_that_agent_in_that_tick() -> None:
    assert_b_failed_in_two_ticks(run(SOURCE))


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_on_ray_an_agents_error_is_the_same_fault_and_its_actor_stays() -> None:
    assert_b_failed_in_two_ticks(run(SOURCE, name="ray"))


def test_labels_that_cannot_be_read_are_a_fault_of_their_agent() -> None:
    """Agent b takes no part, yet its labels count as ground truth."""
    results = run(replace(SOURCE, broken="b"), RunOptions(agents=1))
    for result in results:
        assert result.faults == (Fault("agent failed", "b", "ValueError: cloud of b is truncated"),)
        assert sum(b"b") not in result.ground_truth.ids.tolist() and sum(b"c") in result.ground_truth.ids.tolist()
    # A step and its labels together are one fault.
    assert [fault.agent_id for fault in run(replace(SOURCE, broken="b"))[0].faults] == ["b"]


def test_a_run_in_which_every_agent_fails_at_the_first_tick_ends_with_the_error() -> None:
    with pytest.raises(ValueError, match=r"^cloud of ego is truncated$") as caught:
        run(replace(SOURCE, broken="ego"), RunOptions(agents=1))
    assert "in agent_frame" in str(caught.value.__cause__)


def test_an_evaluation_ends_with_the_error() -> None:
    with LocalRuntime(ALLIANCE, SOURCE, TYPES, options=OPTIONS) as runtime, pytest.raises(ValueError, match="the lens of b"):
        list(runtime.run(range(len(SOURCE))))


@pytest.mark.parametrize("together", [True, False])
def test_of_agents_in_one_process_only_the_guilty_one_fails(together: bool) -> None:
    coordinator: TickCoordinator[bytes] = TickCoordinator(ALLIANCE, SOURCE, TYPES, PerfectNetwork(), OPTIONS)
    host = AgentHost(coordinator.agent_setup("m1"), together=together)
    first, failure, last = step_each(host, [AgentRequest(2, agent_id, FLOAT32) for agent_id in ("ego", "b", "c")])
    assert isinstance(failure, AgentFailure) and failure.text == TEXT and "agent_frame" in failure.trace
    for stepped, agent_id in ((first, "ego"), (last, "c")):
        [(message, _)] = host.step([AgentRequest(2, agent_id, FLOAT32)])
        assert not isinstance(stepped, AgentFailure) and stepped[0] == message


class AwkwardError(Exception):
    """An error that is made from two things and so cannot be copied."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} is not {other}")


def test_an_error_that_cannot_be_sent_to_another_process_keeps_its_text() -> None:
    failure = pickle.loads(pickle.dumps(AgentFailure.of(AwkwardError(1, 2))))
    assert isinstance(failure.error, RuntimeError) and str(failure.error) == "AwkwardError: 1 is not 2"
    assert len(AgentFailure.of(ValueError("x" * 10_000)).text) == 200


def test_by_the_wall_clock_a_failure_that_comes_late_counts_in_the_next_tick() -> None:
    coordinator: TickCoordinator[bytes] = TickCoordinator(ALLIANCE, SOURCE, TYPES, PerfectNetwork(), OPTIONS, tolerant=True)
    hosts = {name: AgentHost(coordinator.agent_setup(name)) for name in ALLIANCE.agent_names}
    missing = {"b": Missing("not computed in time", late=True)}
    for tick in (0, 1):
        plan = coordinator.plan(tick)
        steps: list[AgentStep[bytes] | Missing] = []
        for agent_id, agent_type in plan.agent_types.items():
            message, report = hosts[agent_type].step([plan.agent_request(agent_id)])[0]
            steps.append(missing.get(agent_id) or AgentStep(report, message))
        assert coordinator.deliver(plan, steps).faults == (() if tick == 0 else (Fault("agent failed", "b", "ValueError: no"),))
        coordinator.post_late(plan, "b", Missing("agent failed", failure=AgentFailure.of(ValueError("no"))))


def test_a_run_ends_only_if_no_agent_has_ever_worked() -> None:
    failure, failures = AgentFailure.of(KeyError("lens")), Failures()
    assert failures.note("a", failure) == [Fault("agent failed", "a", "KeyError: 'lens'")]
    failures.check(["a", "b"])
    failures.note("b", failure)
    with pytest.raises(KeyError, match="lens"):
        failures.check(["a", "b"])
    assert failures.note("b", None) == [Fault("agent recovered", "b")] and failures.note("b", None) == []
    failures.note("b", failure)
    failures.check(["a", "b"])
