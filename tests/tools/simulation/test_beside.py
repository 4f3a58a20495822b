"""What is done beside a run's clock does not hold it up, is complete at the end, and its errors end the run."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from heal.agents.records import TickResult
from heal.tools.simulation import beside as module
from heal.tools.simulation.beside import Beside
from tests.agents.made_ticks import made_tick

TICKS = [made_tick(i) for i in range(5)]


def test_ticks_are_handled_in_order_while_the_run_goes_on() -> None:
    go_on, handled = threading.Event(), list[int]()

    def handle(result: TickResult) -> None:
        assert go_on.wait(30)
        handled.append(result.tick)

    with Beside(handle, lambda result: None, may_skip=False) as beside:
        for result in TICKS:
            beside.add(result)
        assert handled == []  # all ticks have been handed over, and none has been handled
        go_on.set()
    assert handled == [0, 1, 2, 3, 4]


def failing_at(tick: int, handled: list[int]) -> Beside:
    def handle(result: TickResult) -> None:
        if result.tick == tick:
            raise OSError("no space left")
        handled.append(result.tick)

    return Beside(handle, lambda result: None, may_skip=False)


def test_an_error_ends_the_run_and_nothing_is_handled_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 1)
    handled: list[int] = []
    with pytest.raises(OSError, match="no space left"), failing_at(1, handled) as beside:
        for result in _without_end():
            beside.add(result)
    assert handled == [0]


def _without_end() -> Iterator[TickResult]:
    while True:
        yield from TICKS


def test_an_error_at_the_last_tick_is_raised_at_the_end() -> None:
    handled: list[int] = []
    with pytest.raises(OSError, match="no space left"), failing_at(4, handled) as beside:
        for result in TICKS:
            beside.add(result)
    assert handled == [0, 1, 2, 3]


def test_what_was_run_before_an_error_of_the_run_is_handled() -> None:
    handled: list[int] = []
    with pytest.raises(KeyboardInterrupt), failing_at(9, handled) as beside:
        for result in TICKS:
            beside.add(result)
        raise KeyboardInterrupt
    assert handled == [0, 1, 2, 3, 4]


def drawn_of(ticks: int, may_skip: bool, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Hand over ticks while none is drawn; return those that were drawn in the end."""
    monkeypatch.setattr(module, "MOST_WAITING", 8)
    go_on, drawn = threading.Event(), list[int]()

    def draw(result: TickResult) -> None:
        assert go_on.wait(30)
        drawn.append(result.tick)

    with Beside(lambda result: None, draw, may_skip) as beside:
        for tick in range(ticks):
            beside.add(made_tick(tick))
        go_on.set()
    return drawn


def test_by_the_wall_clock_a_tick_is_not_drawn_rather_than_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn_of(8, False, monkeypatch) == list(range(8))
    drawn = drawn_of(8, True, monkeypatch)
    assert drawn[0] == 0 and 4 <= len(drawn) < 8 and drawn[-1] == 7


def test_after_an_error_nothing_more_is_drawn() -> None:
    handled, drawn, go_on = list[int](), list[int](), threading.Event()

    def handle(result: TickResult) -> None:
        assert go_on.wait(30)
        handled.append(result.tick)

    beside = Beside(handle, lambda result: drawn.append(result.tick), may_skip=False)
    with pytest.raises(KeyboardInterrupt), beside:
        for result in TICKS:
            beside.add(result)
        threading.Timer(0.2, go_on.set).start()
        raise KeyboardInterrupt
    assert handled == [0, 1, 2, 3, 4] and drawn == []
