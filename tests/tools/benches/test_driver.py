"""The bench of the driver's own work: stubs of agents and fusion nodes, but the run's own coordination."""

from __future__ import annotations

import pytest

from heal.agent_types import same_type
from heal.agents.network.network import PerfectNetwork
from heal.agents.options import RunOptions
from heal.agents.tick import TickCoordinator
from heal.agents.tick_plan import AgentStep
from heal.tools.benches.driver import OPTIONS, Crowd, _answer, bench_driver
from tests.agents.tiny_run import TinyAlliance


def test_there_is_a_row_for_each_crowd_with_and_without_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heal.tools.benches.driver.DIVISIONS", {"driver": OPTIONS, "regions": RunOptions(region_m=16.0)})
    rows = bench_driver(TinyAlliance(), crowds=(2, 6))
    assert [row.name for row in rows] == ["scale/driver2", "scale/driver6", "scale/regions2", "scale/regions6"]
    assert all(row.seconds is not None and row.seconds > 0 for row in rows)


@pytest.mark.parametrize("region_m", [None, 16.0])
def test_the_stubs_go_the_way_of_a_real_tick(region_m: float | None) -> None:
    crowd = Crowd(30)
    coordinator: TickCoordinator[bytes] = TickCoordinator(
        TinyAlliance(), crowd, same_type("m1"), PerfectNetwork(), RunOptions(region_m=region_m)
    )
    plan = coordinator.plan(3)
    delivery = coordinator.deliver(plan, [AgentStep(report, b"") for report in crowd.reports(3)])
    result = coordinator.settle(plan, delivery, [_answer(3, task) for task in delivery.tasks])
    assert result.counts.used == (29 if region_m is None else 30) and len(result.objects) == 30
    assert (len(delivery.tasks) == 1) == (region_m is None)
