"""Tasks that need each other: a process that dies costs its own task, and those that need it."""

from __future__ import annotations

from functools import partial

import pytest
from rich.console import Console

from heal.agents.on_ray.tasks import Finished
from heal.tools.comparing.schedule import MOST_TRIES, Task, run_tasks
from tests.tools.comparing.pieces import die, give, refuse


@pytest.mark.ray
def test_a_failed_task_takes_only_those_with_it_that_need_it() -> None:
    tasks = [
        Task("refused", "", frozenset(), refuse, 1),
        Task("dead", "", frozenset(), die, 1),
        Task("first", "", frozenset(), partial(give, 1), 1),
        Task("second", "", frozenset({"first"}), partial(give, 2), 1),
        Task("lost", "", frozenset({"first", "dead"}), partial(give, 3), 1),
        Task("lost too", "", frozenset({"lost"}), partial(give, 4), 1),
    ]
    outcome = run_tasks(tasks, 2, Console(quiet=True))
    assert outcome.results == {"first": 1, "second": 2}
    assert set(outcome.failures) == {"refused", "dead", "lost", "lost too"}
    assert outcome.failures["refused"].endswith("the loss is not finite")
    assert outcome.failures["lost too"] == outcome.failures["lost"] == outcome.failures["dead"] != ""


class ShortOfMemory:
    """A pool in which every piece of work fails for want of memory, the given number of times."""

    def __init__(self, times: int) -> None:
        self.times, self.started, self.running = times, list[str](), list[str]()

    def __enter__(self) -> ShortOfMemory:  # noqa: D105
        return self

    def __exit__(self, *_: object) -> None: ...  # noqa: D105

    def start(self, name: str, work: object) -> None:
        self.started.append(name)
        self.running.append(name)

    def wait(self, timeout_s: float) -> list[Finished]:
        ended, self.running = self.running, []
        return [
            Finished(name, error="no memory", may_pass=True) if self.started.count(name) <= self.times else Finished(name, name)
            for name in ended
        ]


@pytest.mark.parametrize(("times", "results"), [(2, {"task": "task"}), (9, {})])
def test_a_task_that_found_no_memory_is_tried_again(times: int, results: object, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = ShortOfMemory(times)
    monkeypatch.setattr("heal.agents.on_ray.tasks.TaskPool", lambda: pool)
    outcome = run_tasks([Task("task", "", frozenset(), partial(give, 1), 1)], 2, Console(quiet=True))
    assert outcome.results == results and len(pool.started) == min(times + 1, MOST_TRIES)
    assert bool(outcome.failures) is not bool(results)


def test_nothing_to_do_starts_nothing() -> None:
    assert run_tasks([], 2, Console(quiet=True)).results == {}
