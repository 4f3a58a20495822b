"""The run: both runtimes agree to the last bit, links are accounted for, and a dead agent costs its own messages only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from heal.agents.deployment import Deployment
from heal.agents.local_runtime import LocalRuntime
from heal.agents.message_records import MessageCounts
from heal.agents.network.network import Network, PerfectNetwork
from heal.agents.network.spec import LinkSpec
from heal.agents.options import Precision, RunOptions
from heal.agents.records import TickResult
from heal.agents.runtime import open_runtime
from heal.detection.boxes import boxes_around_origin
from heal.message.codec import Codec
from heal.types import Split
from tests.agents.compressing import CompressingAlliance
from tests.agents.tiny_run import TICK_NS, TinySource, Without, assert_same_results, by_id

ALLIANCE, SOURCE = CompressingAlliance(4, trust={"m2": 0.5}), TinySource()
TYPES = by_id({"ego": "m1", "b": "m2", "c": "m1", "d": "m2"})
ROUGH = LinkSpec.parse("delay:80,jitter:60,loss:0.3")
DROP = RunOptions(late="drop")
PRECISIONS: tuple[Precision, ...] = ("bfloat16", "float32")


def run_local(network: Network | None = None, options: RunOptions | None = None) -> list[TickResult]:
    with LocalRuntime(ALLIANCE, SOURCE, TYPES, network, options) as runtime:
        return list(runtime.run(range(len(SOURCE))))


def total(results: list[TickResult]) -> MessageCounts:
    return MessageCounts.of(record for result in results for record in result.messages)


def test_perfect_links_deliver_all_and_every_tick_is_accounted_for() -> None:
    results = run_local()
    assert [result.tick for result in results] == list(range(10))
    assert total(results) == MessageCounts(sent=15, arrived=15, used=15, bytes=15 * results[0].messages[0].size_bytes)
    assert all(len(result.detections) for result in results)
    assert results[0].messages[0].size_bytes == 8 * 32 * 32 * 4 + 384


@pytest.mark.parametrize("split", ["feature", "pyramid"])
def test_in_half_precision_messages_and_boxes_are_nearly_the_same(split: Split) -> None:
    half, single = (run_local(options=RunOptions(split=split, precision=name)) for name in PRECISIONS)
    for one, other in zip(half, single, strict=True):
        assert [record.size_bytes for record in one.messages] == [record.size_bytes for record in other.messages]
        found, expected = one.detections.scores[:20], other.detections.scores[:20]
        torch.testing.assert_close(found, expected, atol=0.05, rtol=0)
        assert len(expected) and not torch.equal(found, expected)
    with pytest.raises(ValueError, match="float32, tf32, bfloat16"):
        RunOptions(precision="float8")  # type: ignore[arg-type]


def test_ground_truth_is_of_all_agents_whoever_takes_part() -> None:
    everyone, alone = run_local(), run_local(options=RunOptions(agents=1))
    assert total(alone) == MessageCounts()
    for one, other in zip(alone, everyone, strict=True):
        assert [record.agent_id for record in one.messages] == [other.ego_id]
        assert torch.equal(one.ground_truth.ids, other.ground_truth.ids)
    assert everyone[0].ground_truth.ids.tolist() == [1, sum(b"ego"), sum(b"b"), sum(b"c")]
    two = run_local(options=RunOptions(agents=2))
    assert [record.agent_id for record in two[0].messages] == ["ego", "b"]


def test_an_ego_without_a_type_ends_the_run() -> None:
    with LocalRuntime(ALLIANCE, SOURCE, lambda _: {"b": "m1"}) as runtime, pytest.raises(ValueError, match="the ego 'ego'"):
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
    results = run_local(ROUGH.network(seed=4), DROP)
    counts = total(results)
    assert counts.sent == 15 == counts.arrived + counts.late + counts.lost
    assert counts.late and counts.lost and counts.used == counts.arrived
    for result in results:
        assert result.held == ()
        for record in result.messages:
            if record.status == "late":
                assert record.link_ms is not None and 100 < record.link_ms <= 140
            assert (record.arrival_ns is None) == (record.status == "lost")
    gone = {(result.tick, record.agent_id) for result in results for record in result.messages if record.status != "used"}
    for one, other in zip(results, run_local(Without(frozenset(gone)), DROP), strict=True):
        assert torch.equal(one.detections.corners, other.detections.corners)


def test_all_late_and_dropped_leaves_the_ego_alone() -> None:
    late = run_local(LinkSpec(delay=101).network(0), DROP)
    assert total(late).late == 15 and total(late).bytes > 0
    alone = run_local(options=RunOptions(agents=1))
    for one, other in zip(late, alone, strict=True):
        assert torch.equal(one.detections.corners, other.detections.corners)
    assert total(run_local(LinkSpec(delay=100).network(0), DROP)).used == 15


def test_a_late_map_is_fused_in_the_tick_in_which_it_has_arrived() -> None:
    """150 ms on the link: every message misses its own tick and serves the next one, of the same scenario."""
    results = run_local(LinkSpec(delay=150).network(0), RunOptions(late="hold"))
    assert total(results).late == 15
    for result in results:
        others = [record.agent_id for record in result.messages if not record.own]
        expected = [] if result.tick in (0, 5) else [(agent_id, 100.0) for agent_id in others]
        assert [(held.agent_id, held.age_ms) for held in result.held] == expected
    assert run_local(LinkSpec(delay=150).network(0), RunOptions(late="hold", max_age_ms=99))[3].held == ()


def test_a_lost_map_is_stood_in_for_by_the_one_before() -> None:
    results = run_local(Without(frozenset({(2, "b"), (3, "b")})), RunOptions(late="weigh", half_life_ms=100))
    assert [[(held.agent_id, held.age_ms, held.weight) for held in result.held] for result in results[1:5]] == [
        [],
        [("b", 100.0, 0.5)],
        [("b", 200.0, 0.25)],
        [],
    ]


def test_senders_fit_their_messages_to_a_shared_medium() -> None:
    """Two senders of 33 kB on 1 Mbit/s, 12.5 kB a tick: unlimited, hardly anything is in time; adapting, nearly all is."""
    source = replace(SOURCE, ticks_each=40)

    def run(adapt: bool) -> list[TickResult]:
        options = RunOptions(late="drop", adapt=adapt)
        with LocalRuntime(ALLIANCE, source, TYPES, LinkSpec.parse("shared:1").network(0), options) as runtime:
            return list(runtime.run(range(40)))

    def in_time(results: list[TickResult]) -> int:
        return total(results[20:]).used

    assert in_time(run(adapt=False)) < 10
    adapted = run(adapt=True)
    assert in_time(adapted) >= 36
    assert {record.size_bytes for record in adapted[-1].messages if record.own} == {8 * 32 * 32 * 4 + 384}


def test_far_agents_are_counted_apart() -> None:
    counts = total(run_local(options=RunOptions(comm_range_m=4.0)))
    assert (counts.arrived, counts.used, counts.out_of_range, counts.rejected) == (15, 10, 5, 0)


def test_unassigned_agents_and_bad_options_are_named() -> None:
    with LocalRuntime(ALLIANCE, SOURCE, by_id({"ego": "m1"})) as runtime, pytest.raises(ValueError, match=r"'b'.*assigned are"):
        next(runtime.run([0]))
    with pytest.raises(ValueError, match="at least 1"):
        RunOptions(agents=0)
    with pytest.raises(ValueError, match="local, ray"):
        open_runtime("cloud", ALLIANCE, SOURCE, TYPES, PerfectNetwork(), RunOptions())  # type: ignore[arg-type]


def test_realtime_begins_no_tick_early() -> None:
    import time

    began = time.monotonic()
    with LocalRuntime(ALLIANCE, SOURCE, TYPES, options=RunOptions(realtime=True)) as runtime:
        results = list(runtime.run(range(4)))
    # Everything is made ready before the clock starts with the first tick.
    assert time.monotonic() - began >= 0.3
    assert all(result.lag_ms >= 0 for result in results)


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize(
    ("options", "deployment"),
    [
        (RunOptions(keep_views=frozenset({0, 9})), Deployment()),
        (
            RunOptions(split="pyramid", codec=Codec.parse("int8,score:0.3,zstd"), adapt=True),
            Deployment(agents_per_actor=3, pipeline=2),
        ),
        (
            RunOptions(late="drop", codec=Codec.parse("float16"), guard="on"),
            Deployment(pipeline=0, placement="spread"),
        ),
        (RunOptions(codec=Codec.parse("int8,ae:4,zstd")), Deployment()),
        (RunOptions(split="boxes", codec=Codec.parse("float16,score:0.5,zstd"), guard="on"), Deployment()),
        (RunOptions(split="points", codec=Codec.parse("float32,zstd"), keep_views=frozenset({0})), Deployment(pipeline=2)),
    ],
)
def test_ray_equals_local_to_the_last_bit_over_a_change_of_scenario(options: RunOptions, deployment: Deployment) -> None:
    with open_runtime("ray", ALLIANCE, SOURCE, TYPES, ROUGH.network(seed=4), options, deployment) as runtime:
        results = list(runtime.run(range(len(SOURCE))))
    expected = run_local(ROUGH.network(seed=4), options)
    assert_same_results(results, expected)
    assert any(result.held for result in results) == (options.late != "drop")
    latency = results[0].messages[0].latency
    assert latency is not None and min(latency.sense_ms, latency.encode_ms, latency.pack_ms) > 0


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_views_come_through_where_they_are_wanted() -> None:
    options = RunOptions(keep_views=frozenset({9}))
    with open_runtime("ray", ALLIANCE, SOURCE, TYPES, PerfectNetwork(), options) as runtime:
        results = list(runtime.run(range(8, 10)))
    assert results[0].views == () and run_local()[0].views == ()
    assert [view.agent_id for view in results[1].views] == ["d", "ego"]
    for view, other in zip(results[1].views, run_local(options=options)[9].views, strict=True):
        assert np.array_equal(view.points, other.points) and np.array_equal(view.heat, other.heat)
        assert view.heat.shape == (32, 32) and 0 < view.heat.max() <= 1.0001


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_by_the_wall_clock_what_is_not_computed_in_time_is_late_and_used_later() -> None:
    slow = replace(SOURCE, slow="b", ticks_each=8)
    options = RunOptions(realtime=True, late="hold", max_age_ms=1000)
    with open_runtime("ray", ALLIANCE, slow, TYPES, PerfectNetwork(), options) as runtime:
        results = list(runtime.run(range(8)))
    reasons = [record.reason for result in results for record in result.messages if record.agent_id == "b"]
    assert set(reasons[1:]) <= {"not computed in time", "agent busy"} and "agent busy" in reasons
    assert any(held.agent_id == "b" for result in results for held in result.held)
    # The third agent is asked after b: in ticks in which b is waited for, its message does not enter the link at b's deadline.
    behind = [result.messages[2] for result in results[1:] if result.messages[1].reason == "not computed in time"]
    assert behind and {(record.agent_id, record.status) for record in behind} == {("c", "used")}
    assert min(record.sent_ns - record.tick * TICK_NS for record in behind) < 60_000_000


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_by_the_wall_clock_a_slow_ego_drops_ticks_and_never_its_own_map() -> None:
    slow = replace(SOURCE, slow="ego", ticks_each=20)
    with open_runtime("ray", ALLIANCE, slow, TYPES, PerfectNetwork(), RunOptions(realtime=True)) as runtime:
        results = list(runtime.run(range(20)))
    # The ego takes 0.25 s of each tick's 0.1 s.
    assert 2 <= len(results) <= 10 and results[-1].tick == 19
    assert sum(result.dropped for result in results) == 20 - len(results)
    assert all(result.messages[0].own and result.messages[0].status == "used" for result in results)
    assert all(result.wait_ms >= 250 for result in results)
    # Meanwhile the others have finished: what has arrived by the time of the ego's map is in time.
    assert {record.status for result in results for record in result.messages[1:]} == {"used"}


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_at_the_rate_that_a_machine_sustains_no_tick_is_dropped() -> None:
    slow = replace(SOURCE, slow="b", ticks_each=4)
    with open_runtime("ray", ALLIANCE, slow, TYPES, PerfectNetwork(), RunOptions(realtime=True, rate_hz=1.0)) as runtime:
        results = list(runtime.run(range(4)))
    assert [result.dropped for result in results] == [0, 0, 0, 0]
    assert {record.status for result in results for record in result.messages} == {"used"}
    # A second by the wall clock is a tenth of one of the data.
    assert all(25 <= (result.messages[1].sent_ns - result.timestamp_ns) / 1e6 < 100 for result in results)


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_an_agents_error_is_the_runs_error() -> None:
    broken = replace(SOURCE, broken="ego")
    with (
        open_runtime("ray", ALLIANCE, broken, TYPES, PerfectNetwork(), RunOptions(agents=1)) as runtime,
        pytest.raises(ValueError, match=r"^cloud of ego is truncated$"),
    ):
        list(runtime.run(range(3)))
