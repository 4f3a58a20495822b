"""The clock of a run by the wall clock, with a clock that goes on only where somebody sleeps or computes."""

from __future__ import annotations

import pytest

from heal.agents import pacer as module
from heal.agents.options import RunOptions
from heal.agents.pacer import Pacer

STEP_NS = 100_000_000


class FakeTime:
    """A clock that stands still but in `sleep` and where a test lets time pass."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    """Put a clock in place of the machine's."""
    clock = FakeTime()
    monkeypatch.setattr(module, "time", clock)
    return clock


def run(clock: FakeTime, pacer: Pacer, stamps_ns: list[int], works_s: list[float]) -> list[tuple[int, int, float, float]]:
    """Run ticks that take so long each; return for each that was run its number, the dropped ones, its begin and its lag."""
    ran = []
    for tick, dropped in pacer.due(range(len(stamps_ns)), lambda index: stamps_ns[index]):
        lag_ms = pacer.wait()
        ran.append((tick, dropped, round(clock.now_s - 1000, 6), round(lag_ms, 6)))
        clock.now_s += works_s[len(ran) - 1]
    return ran


def test_ticks_that_are_done_in_time_begin_at_their_times(clock: FakeTime) -> None:
    stamps = [index * STEP_NS for index in range(4)]
    assert run(clock, Pacer(), stamps, [0.02, 0.1, 0.09, 0.5]) == [(0, 0, 0, 0), (1, 0, 0.1, 0), (2, 0, 0.2, 0), (3, 0, 0.3, 0)]


def test_a_tick_is_dropped_once_the_next_one_is_due_but_not_the_last(clock: FakeTime) -> None:
    stamps = [index * STEP_NS for index in range(8)]
    # After 0.25 s tick 1 is overtaken, tick 2 is not; it begins 50 ms late. A whole second overtakes all but the last.
    ran = run(clock, Pacer(), stamps, [0.25, 0.01, 1.0, 0.0])
    assert ran == [(0, 0, 0, 0), (2, 1, 0.25, 50), (3, 0, 0.3, 0), (7, 3, 1.3, 600)]


def test_a_tick_that_is_kept_is_run_late(clock: FakeTime) -> None:
    pacer, ran = Pacer(), list[tuple[int, int, float]]()
    for tick, dropped in pacer.due(range(6), lambda index: index * STEP_NS, lambda tick: tick == 2):
        ran.append((tick, dropped, pacer.wait()))
        clock.now_s += 1.0 if tick == 0 else 0.0
    assert ran == [(0, 0, 0), (2, 1, pytest.approx(800)), (5, 2, pytest.approx(500))]


def test_at_half_the_rate_everything_takes_twice_as_long(clock: FakeTime) -> None:
    pacer = Pacer(rate_hz=5)
    ran = run(clock, pacer, [0, STEP_NS, 2 * STEP_NS], [0.35, 0.3, 0.0])
    assert ran == [(0, 0, 0, 0), (1, 0, 0.35, 75), (2, 0, 0.65, 125)]
    assert pacer.wall_s(100) == pytest.approx(0.2) and pacer.data_ms(0.2) == pytest.approx(100)


def test_a_jump_between_recordings_counts_as_a_tenth_of_a_second(clock: FakeTime) -> None:
    assert [begin for _, _, begin, _ in run(clock, Pacer(), [0, 10**12, 5], [0.0] * 3)] == [0, 0.1, 0.2]


def test_the_clock_starts_anew_once_everything_is_ready(clock: FakeTime) -> None:
    pacer = Pacer()
    ticks = pacer.due(range(2), lambda index: index * STEP_NS)
    assert next(ticks) == (0, 0) and pacer.wait() == 0
    clock.now_s += 12  # networks are loaded
    pacer.start()
    assert next(ticks) == (1, 0) and pacer.wait() == pytest.approx(0, abs=1e-6)
    assert clock.now_s == pytest.approx(1012.1)


@pytest.mark.parametrize("rate_hz", [0.0, -1.0, float("inf"), float("nan")])
def test_a_rate_that_no_clock_has_is_refused(rate_hz: float) -> None:
    with pytest.raises(ValueError, match="rate_hz: expected more than 0, such as 10"):
        RunOptions(rate_hz=rate_hz)
