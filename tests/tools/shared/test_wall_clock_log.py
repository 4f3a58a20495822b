"""Whether a run has kept up with the wall clock, and the rate that is advised, on numbers that can be checked by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from heal.agents.message_records import AgentLatency
from heal.agents.options import RunOptions
from heal.agents.records import NodeLatency, TickResult
from heal.tools.shared.run_settings import RunSettings, with_options
from heal.tools.shared.wall_clock_log import NODE, WallClockLog
from tests.agents.made_ticks import made_tick


def tick(agent_ms: float, node_ms: float, link_ms: float, dropped: int = 0) -> TickResult:
    """A tick in which each agent takes so long, and its message so long on the link."""
    result = made_tick(0)
    latency = AgentLatency(agent_ms / 2, agent_ms / 4, agent_ms / 4)
    records = tuple(
        replace(record, latency=latency, sent_ns=0, arrival_ns=round(link_ms * 1e6) if not record.own else 0)
        for record in result.messages
    )
    return replace(result, messages=records, latency=NodeLatency(node_ms, 0, 0), dropped=dropped)


def log_of(*results: TickResult) -> WallClockLog:
    log = WallClockLog()
    for result in results:
        log.add(result)
    return log


def test_a_run_without_dropped_ticks_has_kept_up() -> None:
    log = log_of(tick(20, 10, 5), tick(20, 10, 5))
    assert log.kept_up and "kept up" in log.text(RunOptions())
    assert log.rates_hz[NODE] == pytest.approx(100) and log.rates_hz[made_tick(0).ego_id] == pytest.approx(50)
    assert not log_of(replace(tick(20, 10, 5), lag_ms=101)).kept_up


def test_the_advised_rate_leaves_time_for_the_slowest_agent_its_link_and_the_node() -> None:
    # Agent and node together take 500 ms: 2 Hz, of which nine tenths are safe.
    log = log_of(tick(300, 200, 0, dropped=4))
    assert not log.kept_up and log.sustained_hz(RunOptions()) == pytest.approx(1.8)
    assert "4 of 5 ticks dropped" in log.text(RunOptions()) and log.text(RunOptions()).endswith("--rate 1.8")
    # With 60 ms on the link the agent's 300 ms must fit into 40 ms of the data: 7.5 times as slow as 10 Hz.
    assert log_of(tick(300, 200, 60, dropped=4)).sustained_hz(RunOptions()) == pytest.approx(1.2)
    # A link that takes longer than the deadline is late at any rate.
    assert log_of(tick(300, 200, 200, dropped=4)).sustained_hz(RunOptions()) == pytest.approx(1.8)


def test_steps_that_are_finished_late_count_too() -> None:
    late = replace(tick(100, 100, 0), late=(("straggler", AgentLatency(700, 100, 0)),))
    log = log_of(late)
    assert log.rates_hz["straggler"] == pytest.approx(1.25) and log.sustained_hz(RunOptions()) == pytest.approx(1.0)


def test_a_rate_is_a_rate_by_the_wall_clock() -> None:
    run = with_options(RunSettings(), {"rate_hz": 2.0, "realtime": False}).run
    assert run.realtime and run.rate_hz == 2.0
    assert not with_options(RunSettings(), {"rate_hz": None, "realtime": False}).run.realtime
