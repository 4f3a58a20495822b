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

    with Beside(handle) as beside:
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

    return Beside(handle)


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
