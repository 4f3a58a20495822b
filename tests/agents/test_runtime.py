"""The run: both runtimes agree to the last bit, links are accounted for, and a dead agent costs its own messages only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from heal.agents.link import LinkFactory, LinkSpec, PerfectLink
from heal.agents.local_runtime import LocalRuntime, perfect_links
from heal.agents.records import MessageCounts, RunOptions, TickResult
from heal.agents.runtime import open_runtime
from heal.agents.tick import DIED
from heal.agents.types_of import by_id, joining
from heal.boxes import boxes_around_origin
from tests.agents.tiny_run import TICK_NS, TinyAlliance, TinySource, assert_same_results

ALLIANCE, SOURCE = TinyAlliance(), TinySource()
TYPES = by_id({"ego": "m1", "b": "m2", "c": "m1", "d": "m2"})
ROUGH = LinkSpec.parse("delay:80,jitter:60,loss:0.3").factory(seed=4)


def run_local(links: LinkFactory = perfect_links, options: RunOptions | None = None) -> list[TickResult]:
    with LocalRuntime(ALLIANCE, SOURCE, TYPES, links, options) as runtime:
        return list(runtime.run(range(len(SOURCE))))


def total(results: list[TickResult]) -> MessageCounts:
    return MessageCounts.of(record for result in results for record in result.messages)


@dataclass(frozen=True)
class SilentFrom:
    """A link that a message gets through only before a tick."""

    tick: int

    def deliver(self, sent_ns: int, size_bytes: int, tick: int) -> int | None:
        return sent_ns if tick < self.tick else None


def test_perfect_links_deliver_all_and_every_tick_is_accounted_for() -> None:
    results = run_local()
    assert [result.tick for result in results] == list(range(10))
    assert total(results) == MessageCounts(sent=15, arrived=15, used=15, bytes=15 * results[0].messages[0].size_bytes)
    assert all(len(result.detections) for result in results)
    assert results[0].messages[0].size_bytes == 8 * 32 * 32 * 4 + 320


def test_ground_truth_is_of_all_agents_whoever_takes_part() -> None:
    everyone, alone = run_local(), run_local(options=RunOptions(agents=1))
    assert total(alone) == MessageCounts()
    for one, other in zip(alone, everyone, strict=True):
        assert [record.agent_id for record in one.messages] == [other.ego_id]
        assert torch.equal(one.ground_truth.ids, other.ground_truth.ids)
    assert everyone[0].ground_truth.ids.tolist() == [1, sum(b"ego"), sum(b"b"), sum(b"c")]
    two = run_local(options=RunOptions(agents=2))
    assert [record.agent_id for record in two[0].messages] == ["ego", "b"]


def test_an_agent_that_joins_counts_from_then_on() -> None:
    first_ns = SOURCE.outline(0).timestamp_ns
    middle = joining(TYPES, {"b": first_ns + 2 * TICK_NS})
    with LocalRuntime(ALLIANCE, SOURCE, middle) as runtime:
        joined = list(runtime.run(range(4)))
    never = joining(TYPES, {"b": first_ns + 100 * TICK_NS})
    with LocalRuntime(ALLIANCE, SOURCE, never) as runtime:
        assert_same_results(joined[:2], list(runtime.run(range(2))))
    assert_same_results(joined[2:], run_local()[2:4])
    with (
        LocalRuntime(ALLIANCE, SOURCE, joining(TYPES, {"ego": 10**18})) as runtime,
        pytest.raises(ValueError, match="the ego 'ego'"),
    ):
        next(iter(runtime.run([0])))


def test_own_vehicle_is_left_out_on_demand() -> None:
    # The car that all label stands 4 m ahead of the first ego, so it is truth in either case; boxes around the ego are none.
    left_out = 0
    for without, everything in zip(run_local(), run_local(options=RunOptions(include_ego=True)), strict=True):
        assert torch.equal(without.ground_truth.corners, everything.ground_truth.corners)
        own = boxes_around_origin(everything.detections.boxes)
        assert torch.equal(without.detections.corners, everything.detections.corners[~own])
        left_out += int(own.sum())
    assert left_out


def test_counts_add_up_and_late_or_lost_equals_absent() -> None:
    results = run_local(ROUGH)
    counts = total(results)
    assert counts.sent == 15 == counts.arrived + counts.late + counts.lost
    assert counts.late and counts.lost and counts.used == counts.arrived
    for result in results:
        for record in result.messages:
            if record.status == "late":
                assert record.link_ms is not None and 100 < record.link_ms <= 140
            assert (record.arrival_ns is None) == (record.status == "lost")

    gone = {(result.tick, record.agent_id) for result in results for record in result.messages if record.status != "used"}

    @dataclass(frozen=True)
    class Replay:
        agent_id: str

        def deliver(self, sent_ns: int, size_bytes: int, tick: int) -> int | None:
            return None if (tick, self.agent_id) in gone else sent_ns

    for one, other in zip(results, run_local(Replay), strict=True):
        assert torch.equal(one.detections.corners, other.detections.corners)


def test_all_late_leaves_the_ego_alone() -> None:
    late = run_local(LinkSpec(delay=101).factory(0))
    assert total(late).late == 15 and total(late).bytes > 0
    alone = run_local(options=RunOptions(agents=1))
    for one, other in zip(late, alone, strict=True):
        assert torch.equal(one.detections.corners, other.detections.corners)
    assert total(run_local(LinkSpec(delay=100).factory(0))).used == 15


def test_far_agents_are_counted_apart() -> None:
    counts = total(run_local(options=RunOptions(comm_range_m=4.0)))
    assert (counts.arrived, counts.used, counts.out_of_range, counts.rejected) == (15, 10, 5, 0)


def test_unassigned_agents_and_bad_options_are_named() -> None:
    with LocalRuntime(ALLIANCE, SOURCE, by_id({"ego": "m1"})) as runtime, pytest.raises(ValueError, match=r"'b'.*assigned are"):
        next(runtime.run([0]))
    with pytest.raises(ValueError, match="at least 1"):
        RunOptions(agents=0)
    with pytest.raises(ValueError, match="local, ray"):
        open_runtime("cloud", ALLIANCE, SOURCE, TYPES, perfect_links, RunOptions())  # type: ignore[arg-type]


def test_realtime_begins_no_tick_early() -> None:
    import time

    began = time.monotonic()
    with LocalRuntime(ALLIANCE, SOURCE, TYPES, options=RunOptions(realtime=True)) as runtime:
        results = list(runtime.run(range(4)))
    # The first tick warms up; the clock starts with the second.
    assert time.monotonic() - began >= 0.2
    assert all(result.lag_ms >= 0 for result in results)


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """One Ray for all tests of this file; the runtimes use it and leave it alone."""
    import ray

    from heal.agents.ray_runtime import start_ray

    assert start_ray()
    yield
    ray.shutdown()


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_ray_equals_local_to_the_last_bit_over_a_change_of_scenario() -> None:
    options = RunOptions(keep_points=frozenset({0, 9}))
    with open_runtime("ray", ALLIANCE, SOURCE, TYPES, ROUGH, options) as runtime:
        results = list(runtime.run(range(len(SOURCE))))
    expected = run_local(ROUGH, options)
    assert_same_results(results, expected)
    assert [cloud.agent_id for cloud in results[0].clouds] == ["ego", "b", "c"]
    assert results[1].clouds == ()
    for cloud, other in zip(results[9].clouds, expected[9].clouds, strict=True):
        assert np.array_equal(cloud.points, other.points)
    latency = results[0].messages[0].latency
    assert latency is not None and min(latency.sense_ms, latency.encode_ms, latency.pack_ms) > 0
    assert run_local()[0].clouds == ()


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_killed_agents_lose_their_messages_and_nothing_else() -> None:
    """One agent of the first scenario dies, then the ego of the second; the actor that agent b leaves dead is given to nobody."""
    from heal.agents.ray_runtime import RayRuntime

    victims = {0: "b", 5: "d"}
    results = []
    with RayRuntime(ALLIANCE, SOURCE, TYPES, perfect_links) as runtime:
        for result in runtime.run(range(len(SOURCE))):
            results.append(result)
            if result.tick in victims:
                runtime.kill_agent(victims[result.tick])
    gone = {(record.agent_id, result.tick) for result in results for record in result.messages if record.reason == DIED}
    first_b, first_d = (min(tick for agent_id, tick in gone if agent_id == name) for name in "bd")
    assert 1 <= first_b < 5 and 6 <= first_d < 10
    assert gone == {("b", tick) for tick in range(first_b, 5)} | {("d", tick) for tick in range(first_d, 10)}
    assert total(results).lost == 5 - first_b and total(results).used == total(results).sent - total(results).lost

    expected = run_local(lambda agent_id: SilentFrom(first_b) if agent_id == "b" else PerfectLink())
    for one, other in zip(results[:first_d], expected, strict=False):
        assert torch.equal(one.detections.corners, other.detections.corners)
        assert torch.equal(one.detections.scores, other.detections.scores)
    for one, other in zip(results, expected, strict=True):
        assert torch.equal(one.ground_truth.ids, other.ground_truth.ids)
    assert [record.status for record in results[-1].messages] == ["lost", "used"] and len(results[-1].detections)


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_an_agents_error_is_the_runs_error() -> None:
    broken = replace(SOURCE, broken="ego")
    with (
        open_runtime("ray", ALLIANCE, broken, TYPES, perfect_links, RunOptions(agents=1)) as runtime,
        pytest.raises(ValueError, match=r"^cloud of ego is truncated$"),
    ):
        list(runtime.run(range(3)))
