"""Outside agents in a run: their messages take part as those of the run's own agents do, and strangers harm nobody."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from heal.agents.deployment import Deployment
from heal.agents.door.clock import Clock, RunFacts
from heal.agents.door.options import DoorOptions
from heal.agents.network.network import PerfectNetwork
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.agents.runtime import open_runtime
from heal.errors import UserError
from heal.identity.envelope import seal
from heal.identity.key_folder import add_agents
from heal.tools.benches.door import free_endpoint
from tests.agents.door.following import Sends, messages_of, outside_agent
from tests.agents.tiny_run import TinyAlliance, TinySource, assert_same_results, by_id

pytest.importorskip("zenoh")
TICKS = 8
SOURCE = TinySource(scenarios=(("ego", "b", "c"),), ticks_each=TICKS)
ALL_TYPES = by_id({"ego": "m1", "b": "m1", "c": "m2"})
RUN = RunOptions()
FACTS = RunFacts("", "feature", TinyAlliance.grid)
RUNTIMES = ["local", pytest.param("ray", marks=pytest.mark.ray)]


def without_c(outline: object) -> dict[str, str]:
    return {"ego": "m1", "b": "m1"}


def run(
    name: str, sends: Sends, options: RunOptions = RUN, agent_id: str = "c", source: TinySource = SOURCE, **door: Any
) -> list[TickResult]:
    """Run all ticks with an outside agent that sends in each."""
    chosen = {"listen": free_endpoint(), "agents": 1, "first_wait_s": 60.0, "wait_ms": 60_000.0, **door}
    settings = DoorOptions(**chosen)
    deployment = Deployment(door=settings)
    with (
        outside_agent(settings.listen, agent_id, sends) as clocks,
        open_runtime(name, TinyAlliance(), source, without_c, PerfectNetwork(), options, deployment) as runtime,
    ):
        results = list(runtime.run(range(len(source))))
    assert [clock.tick for clock in clocks if clock.state == "over"] == [len(source) - 1]
    return results


def of_c(results: list[TickResult]) -> list[str]:
    """Return what became of the outside agent's message in each tick."""
    return [" ".join(record.kind for record in result.messages if record.agent_id == "c") for result in results]


def turned_away(results: list[TickResult]) -> Counter[str]:
    return sum((Counter(result.turned_away) for result in results), Counter())


@pytest.fixture(scope="module")
def inside() -> list[TickResult]:
    """The run in which all three agents are the run's own."""
    with open_runtime("local", TinyAlliance(), SOURCE, ALL_TYPES, PerfectNetwork(), RUN) as runtime:
        return list(runtime.run(range(TICKS)))


@pytest.mark.parametrize("name", RUNTIMES)
def test_forgeries_on_an_agents_topic_are_counted_and_change_nothing(name: str, inside: list[TickResult], tmp_path: Path) -> None:
    add_agents(tmp_path, ["b", "c"], datetime(2020, 1, 1, tzinfo=timezone.utc), None)
    options = replace(RUN, keys=str(tmp_path))
    honest, unsigned, stranger = (
        messages_of(TinyAlliance(), SOURCE, "m2", "c", options),
        messages_of(TinyAlliance(), SOURCE, "m2", "c", RUN),
        Ed25519PrivateKey.generate(),
    )

    def sends(clock: Clock) -> Sequence[bytes]:
        """Before and after the honest message come one that nobody has signed, one of another key, and one that was changed."""
        [message], [made_up] = honest(clock), unsigned(clock)
        forged = made_up, seal(made_up, stranger, time.time_ns(), clock.timestamp_ns), message[:-1] + bytes([message[-1] ^ 1])
        return [*forged, message, *forged[:2], message]

    results = run(name, sends, options)
    assert of_c(results) == ["used"] * TICKS
    assert all(torch.equal(a.detections.corners, b.detections.corners) for a, b in zip(results, inside, strict=True))
    counted = turned_away(results)
    # What comes behind the last message that a tick waits for may come after the run.
    assert counted["bad signature"] == TICKS and set(counted) == {"unsigned", "unknown key", "bad signature", "replayed"}
    assert 2 * TICKS - 1 <= counted["unsigned"] <= 2 * TICKS and TICKS - 1 <= counted["replayed"] <= TICKS


@pytest.mark.parametrize("name", RUNTIMES)
def test_an_outside_agent_gives_the_boxes_that_it_gives_inside(name: str, inside: list[TickResult]) -> None:
    results = run(name, messages_of(TinyAlliance(), SOURCE, "m2", "c", RUN))
    assert_same_results(results, inside)
    assert [record.outside for record in results[3].messages] == [False, False, True]
    assert turned_away(results) == Counter()


def test_who_sends_late_is_late_and_its_older_map_serves_instead() -> None:
    honest = messages_of(TinyAlliance(), SOURCE, "m2", "c", RUN)
    late = [honest(Clock(b"", FACTS, tick)) for tick in range(TICKS)]
    results = run("local", lambda clock: late[max(clock.tick - 1, 0)], wait_ms=300.0)
    assert of_c(results) == ["used", *["late"] * (TICKS - 1)]
    # The message of tick 0 comes once more in tick 1; from then on each tick has the map of the one before.
    assert [[(held.agent_id, held.age_ms) for held in result.held] for result in results[2:]] == [[("c", 100.0)]] * (TICKS - 2)
    assert {rejection.reason for result in results for rejection in result.late_rejections} == {"duplicate"}


def test_who_falls_silent_takes_part_no_more_and_may_come_back() -> None:
    # Each tick takes a quarter of a second: who takes no part is not waited for, and sends in the time of the tick after.
    source, options = TinySource(scenarios=(("ego", "b", "c"),), ticks_each=9, slow="b"), replace(RUN, max_age_ms=150.0)
    honest = messages_of(TinyAlliance(), source, "m2", "c", RUN)
    results = run(
        "local", lambda clock: honest(clock) if clock.tick not in (2, 3, 4) else [], options, source=source, wait_ms=5000.0
    )
    assert of_c(results) == ["used", "used", "not sent: silent", "", "", "", "late", "used", "used"]
    faults = [(result.tick, fault.kind, fault.agent_id) for result in results for fault in result.faults]
    assert faults == [(3, "agent silent", "c"), (6, "agent rejoined", "c")]


def test_messages_that_the_fusion_node_cannot_use_are_counted_and_change_nothing() -> None:
    honest, foreign = messages_of(TinyAlliance(), SOURCE, "m2", "c", RUN), TinyAlliance()
    foreign.base_hash = "beef" * 16
    other_base, other_split = (
        messages_of(foreign, SOURCE, "m2", "c", RUN),
        messages_of(TinyAlliance(), SOURCE, "m2", "c", replace(RUN, split="pyramid")),
    )

    def sends(clock: Clock) -> list[bytes]:
        [message] = honest(clock)
        damaged = message[:-1] + bytes([message[-1] ^ 1])
        return [[message, *other_base(clock), *other_split(clock), damaged][clock.tick % 4]]

    results = run("local", sends)
    kinds = ["used", "rejected: other base", "rejected: other split", "rejected: malformed"]
    assert of_c(results) == kinds * 2
    with open_runtime("local", TinyAlliance(), SOURCE, without_c, PerfectNetwork(), replace(RUN, late="drop")) as runtime:
        alone = list(runtime.run(range(TICKS)))
    results = run("local", sends, replace(RUN, late="drop"))
    for tick in (1, 2, 3, 5, 6, 7):
        assert torch.equal(results[tick].detections.scores, alone[tick].detections.scores)


def test_a_stranger_cannot_speak_for_an_agent_of_the_run() -> None:
    source = TinySource(scenarios=(("ego", "b", "c"),), ticks_each=1000)
    settings, honest = DoorOptions(listen=free_endpoint()), messages_of(TinyAlliance(), source, "m1", "b", RUN)
    parts = TinyAlliance(), source, without_c, PerfectNetwork(), RUN, Deployment(door=settings)
    with outside_agent(settings.listen, "b", honest), open_runtime("local", *parts) as runtime:
        for result in runtime.run(range(1000)):
            assert [record.outside for record in result.messages] == [False, False]
            if result.turned_away:
                break
            time.sleep(0.05)  # the stranger needs some time
    assert set(result.turned_away) == {"id taken"}


def test_by_the_wall_clock_a_message_belongs_to_the_tick_in_whose_window_it_comes() -> None:
    """However busy the machine is: every message has one record, which is right about when the message came."""
    honest, sent = messages_of(TinyAlliance(), SOURCE, "m2", "c", RUN), list[int]()

    def sends(clock: Clock) -> Sequence[bytes]:
        sent.append(clock.tick)
        return honest(clock)

    results = run("local", sends, replace(RUN, realtime=True, rate_hz=2.0))
    of_tick = [(result, record) for result in results for record in result.messages if record.agent_id == "c" and record.size_bytes]
    assert 0 <= len(sent) - len(of_tick) - sum(turned_away(results).values()) <= 2, "the last ones may come after the run"
    for result, record in of_tick:
        assert record.arrival_ns is not None and record.arrival_ns >= result.timestamp_ns and record.link_ms is None
        if record.status == "used":
            assert record.arrival_ns - result.timestamp_ns <= 100e6
        else:
            assert record.kind == "late"
    assert of_tick


def test_a_door_that_cannot_open_says_why() -> None:
    endpoint = free_endpoint()
    settings = Deployment(door=DoorOptions(listen=endpoint))
    parts = TinyAlliance(), SOURCE, without_c, PerfectNetwork(), RUN, settings
    with open_runtime("local", *parts), pytest.raises(UserError, match=rf"cannot listen on {endpoint}.*in use"):
        open_runtime("local", *parts)
    for wrong in ("127.0.0.1:7447", "tcp/127.0.0.1", ""):
        with pytest.raises(UserError, match="expected PROTOCOL/HOST:PORT"):
            DoorOptions(listen=wrong)


def test_garbage_is_counted_to_the_last_piece_and_costs_an_honest_agent_no_message() -> None:
    honest = messages_of(TinyAlliance(), SOURCE, "m2", "c", RUN)
    results = run("local", lambda clock: [*[b"garbage" * 30] * 250, *honest(clock)], wait_ms=60_000.0)
    assert of_c(results) == ["used"] * TICKS
    assert turned_away(results) == {"malformed": 250 * TICKS}
