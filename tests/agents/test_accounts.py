"""No message is lost without a record: too late, of another recording, at a fusion node that is away, twice, or failed later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from heal.agents.agent import AgentHost
from heal.agents.mailbox import Mailbox
from heal.agents.message_records import MessageRecord
from heal.agents.network.network import PerfectNetwork
from heal.agents.network.transit import Transit, Transmission
from heal.agents.options import RunOptions
from heal.agents.records import UNFINISHED, Arrival, FusionRequest, TickResult
from heal.agents.tick import TickCoordinator
from heal.agents.tick_plan import AgentStep, Missing
from tests.agents.fusion.tiny_node import new_node
from tests.agents.tiny_run import TinyAlliance, TinySource, by_id

SOURCE = TinySource(scenarios=(("ego", "b"), ("ego", "b")), ticks_each=8)
TYPES = by_id({"ego": "m1", "b": "m1"})


@dataclass
class Delays:
    """A network that delays the messages of some ticks, in ms; others arrive at once, or are lost where the delay is None."""

    by_tick: dict[int, float | None] = field(default_factory=dict)

    def send(self, tick: int, transmissions: Sequence[Transmission], now_ns: int | None = None) -> list[Transit]:
        delay_ms = self.by_tick.get(tick, 0.0)
        return [
            Transit(None, "gone") if delay_ms is None else Transit(one.sent_ns + round(delay_ms * 1e6)) for one in transmissions
        ]


class Doubling(Mailbox[Any]):
    """A mailbox in which every message comes twice."""

    def collect(self, request: FusionRequest, deadline_ms: float) -> list[tuple[MessageRecord, Any]]:
        return [pair for pair in super().collect(request, deadline_ms) for _ in range(2)]


class Run:
    """A run without a runtime: one tick after the other, with a fusion node that may be away."""

    def __init__(self, network: Any = PerfectNetwork(), options: RunOptions = RunOptions()) -> None:  # noqa: B008 - both are frozen
        self.coordinator: TickCoordinator[bytes] = TickCoordinator(TinyAlliance(), SOURCE, TYPES, network, options)
        self._host, self._node = AgentHost(self.coordinator.agent_setup("m1")), new_node(options)
        self._plan: Any = None

    def step(self, tick: int, away: bool = False, unfinished: str = "") -> TickResult:
        """Run a tick; `away` is the fusion node, and the agent `unfinished` has no message at the deadline."""
        plan = self._plan = self.coordinator.plan(tick)
        stepped = self._host.step([plan.agent_request(agent_id) for agent_id in plan.agent_types])
        steps = {report.agent_id: AgentStep(report, message) for message, report in stepped}
        missing = {unfinished: Missing(UNFINISHED, late=True)} if unfinished else {}
        delivery = self.coordinator.deliver(plan, list({**steps, **missing}.values()))
        [task] = delivery.tasks
        arrivals = [Arrival(record.agent_id, payload, record.tick) for record, payload in task.arrived]
        return self.coordinator.settle(plan, delivery, [None if away else self._node.step(task.request, arrivals)])

    def finish(self, agent_id: str, after_ms: float = 0.0, dies: bool = False) -> None:
        """Let an agent finish its message of the last tick so long after the beginning of the tick, or die over it."""
        [(message, report)] = self._host.step([self._plan.agent_request(agent_id)])
        step = Missing("agent crashed") if dies else AgentStep(report, message, after_ms)
        self.coordinator.post_late(self._plan, agent_id, step)


def ended(result: TickResult) -> list[tuple[str, int, str]]:
    return [(*rejection.sender, rejection.reason) for rejection in result.late_rejections]


def test_a_message_that_comes_too_late_for_any_use_is_recorded_when_that_is_certain() -> None:
    run = Run(Delays({0: 700.0}))
    results = [run.step(tick) for tick in range(8)]
    assert [record.status for record in results[0].messages] == ["used", "late"]
    assert [ended(result) for result in results] == [[], [], [], [], [], [], [("b", 0, "too late")], []]


def test_a_message_that_comes_in_another_recording_is_recorded() -> None:
    run = Run(Delays({1: 150.0}))
    run.step(6), run.step(7)
    assert ended(run.step(8)) == [("b", 7, "other recording")]


def test_a_late_message_that_finds_the_fusion_node_away_is_recorded() -> None:
    run = Run(Delays({0: 150.0}))
    run.step(0)
    away = run.step(1, away=True)
    assert {record.reason for record in away.messages} == {"fusion node away"}
    assert ended(away) == [("b", 0, "fusion node away")] and ended(run.step(2)) == []


def test_a_message_that_comes_twice_is_used_and_its_copy_is_recorded() -> None:
    run = Run()
    run.coordinator._mailbox = Doubling(RunOptions())
    result = run.step(0)
    assert {record.status for record in result.messages} == {"used"} and len(result.detections)
    assert ended(result) == [("ego", 0, "duplicate"), ("b", 0, "duplicate")]


@pytest.mark.parametrize(("delay_ms", "reason"), [(None, "lost: gone"), (600.0, "too late"), (0.0, "superseded")])
def test_what_becomes_of_a_message_that_is_finished_after_its_tick_is_recorded(delay_ms: float | None, reason: str) -> None:
    run = Run(Delays({0: delay_ms}))
    run.step(0, unfinished="b")
    run.finish("b", after_ms=150.0)
    assert [end for tick in range(1, 8) for end in ended(run.step(tick))] == [("b", 0, reason)]


def test_an_agent_that_dies_after_its_tick_is_recorded() -> None:
    run = Run()
    run.step(0, unfinished="b")
    run.finish("b", dies=True)
    assert ended(run.step(1)) == [("b", 0, "agent crashed")] and ended(run.step(2)) == []
