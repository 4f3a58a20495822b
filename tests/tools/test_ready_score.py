"""AP when results are ready: the wait for the deadline is charged, for the ego and for others that drive on meanwhile."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from heal.agent_types import same_type
from heal.agents.local_runtime import LocalRuntime
from heal.agents.network.spec import LinkSpec
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.agents.truth import TruthRule
from heal.detection.boxes import boxes_to_corners
from heal.detection.detections import Detections
from heal.detection.ground_truth import objects_in_frame
from heal.se3 import pose_to_SE3
from heal.tools.shared.ready_score import ReadyScore
from heal.tools.shared.run_log import RunLog
from heal.types import Float64, ObjectLabels
from tests.agents.made_ticks import RANGE_M, made_tick
from tests.agents.tiny_run import TICK_NS, TinyAlliance, TinySource

SPEEDS_M = np.array([0.0, 2.0])
"""Metres that the two vehicles drive in a tick, along their heading."""


def objects_at(tick: float, ids: tuple[int, ...] = (7, 9)) -> ObjectLabels:
    """The labels of a parked vehicle and of one that drives at 20 m/s, along y of the world."""
    boxes = [[0.0, 10.0 + SPEEDS_M[0] * tick, 0, 1.5, 1.8, 4.0, np.pi / 2], [5.0, SPEEDS_M[1] * tick, 0, 1.5, 1.8, 4.0, np.pi / 2]]
    return ObjectLabels(np.array(ids), boxes_to_corners(torch.tensor(boxes)).numpy())


def ego_at(tick: float) -> Float64:
    """The pose of an ego that drives at 15 m/s along y, and turns by two degrees in a tick."""
    return pose_to_SE3([-4.0, 1.5 * tick, 0, 0, 90 + 2 * tick, 0])


def tick_of(tick: int, wait_ms: float) -> TickResult:
    """A tick whose detections are the truth of the tick, in a recording of its own."""
    truth = objects_in_frame(objects_at(tick), ego_at(tick), RANGE_M)
    found = Detections(truth.corners, torch.linspace(0.9, 0.8, len(truth)))
    made = replace(made_tick(tick), detections=found, ground_truth=truth, world_SE3_ego=ego_at(tick))
    return replace(made, objects=objects_at(tick), wait_ms=wait_ms)


def score_of(*results: TickResult) -> ReadyScore:
    score = ReadyScore(TruthRule(RANGE_M))
    for result in results:
        score.add(result)
    return score


def found_by(score: ReadyScore) -> list[int]:
    """The number of objects that were found at IoU 0.3, 0.5 and 0.7."""
    return [curve.true_positives for curve in score.results().curves]


def test_an_ego_that_waits_for_nobody_is_scored_at_its_tick() -> None:
    score = score_of(*(tick_of(tick, 0.0) for tick in range(3)))
    assert found_by(score) == [6, 6, 6] and score.results().frames == 3


@pytest.mark.parametrize(
    ("wait_ms", "moved_m", "frames"), [(20.0, 0.4, 4), (50.0, 1.0, 4), (100.0, 2.0, 4), (130.0, 2.6, 3), (200.0, 4.0, 3)]
)
def test_boxes_stay_in_the_world_while_vehicles_drive_on(wait_ms: float, moved_m: float, frames: int) -> None:
    """Found in the world, the parked vehicle is found when the result is ready. The other has driven out of its box of 4 m."""
    score = score_of(*(tick_of(tick, wait_ms) for tick in range(5)))
    overlap = max(4 - moved_m, 0) / (4 + moved_m)
    assert score.results().frames == frames
    assert found_by(score) == [frames * (1 + (overlap > threshold)) for threshold in (0.3, 0.5, 0.7)]


def test_results_between_recordings_egos_and_ticks_far_apart_are_not_scored() -> None:
    first, second = tick_of(0, 100.0), tick_of(1, 100.0)
    others = (
        replace(second, scene_id="other/001"),
        replace(second, ego_id="b"),
        replace(second, timestamp_ns=2 * 10**9),
        replace(second, timestamp_ns=-TICK_NS),
    )
    assert [score_of(first, other).results().frames for other in others] == [0] * len(others)
    assert score_of(first, others[0], replace(tick_of(2, 100.0), scene_id="other/002")).results().frames == 1


def test_a_clock_that_is_off_by_some_milliseconds_needs_no_ids_that_last() -> None:
    """Some data sets number the objects of every tick anew: between two ticks nothing is known of them, at a tick all is."""
    renumbered = replace(tick_of(1, 0.0), objects=objects_at(1, (9, 7)), timestamp_ns=TICK_NS + 3_000_000)
    assert found_by(score_of(tick_of(0, 100.0), renumbered)) == [2 + 2, 1 + 2, 1 + 2]
    assert found_by(score_of(tick_of(0, 60.0), renumbered)) == [2, 2, 2]


def test_detections_that_leave_the_range_do_not_count() -> None:
    """The ego has come 1.5 m nearer, and has passed a wrong box that was at the rear end of its range."""
    near_the_end = Detections(boxes_to_corners(torch.tensor([[-17.5, 3.0, 0.0, 1.5, 1.8, 4.0, 0.0]])), torch.ones(1))
    first = replace(tick_of(0, 100.0), detections=near_the_end)
    assert score_of(first, tick_of(1, 100.0)).results().detections == 0


def run(link: str, options: RunOptions) -> list[TickResult]:
    source = TinySource(scenarios=(("ego", "b", "c"),), ticks_each=8)
    with LocalRuntime(TinyAlliance(), source, same_type("m1"), LinkSpec.parse(link).network(0), options) as runtime:
        return list(runtime.run(range(len(source))))


@pytest.mark.parametrize(("delay_ms", "age_ms"), [(0, 0), (100, 0), (150, 100), (300, 200), (500, 400)])
def test_maps_are_as_old_as_the_delay_once_the_wait_is_added(delay_ms: int, age_ms: int) -> None:
    log, results = RunLog.of(RunOptions(), TinyAlliance.grid.range_m), run(f"delay:{delay_ms}", RunOptions())
    for result in results:
        log.add(result)
    assert results[-1].map_ages_ms == (age_ms, age_ms) and {result.wait_ms for result in results} == {100.0}
    assert log.metrics()["map_age_ms"] == age_ms and log.metrics()["when_ready"]["frames"] == 7


def test_an_ego_alone_is_ready_at_once_and_by_the_wall_clock_computing_counts() -> None:
    assert {result.wait_ms for result in run("perfect", RunOptions(agents=1))} == {0.0}
    for result in run("perfect", RunOptions(realtime=True, deadline_ms=40.0)):
        assert result.latency is not None
        # The fusion begins at the deadline, or once the agents, which step one after the other here, have all finished.
        steps_ms = sum(record.latency.total_ms for record in result.messages if record.latency is not None)
        least_ms = result.lag_ms + max(40.0, steps_ms) + result.latency.total_ms
        assert least_ms - 1e-3 <= result.wait_ms < least_ms + 100
