"""Tasks that need each other, as many at once as there are workers: a failed one takes with it only those that need it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress, TaskID

from heal.tools.terminal.progress import new_progress

if TYPE_CHECKING:
    from heal.agents.on_ray.tasks import Finished

POLL_S, MOST_TRIES = 1.0, 4


@dataclass(frozen=True)
class Task:
    """A piece of work.

    Attributes:
        key: its name for other tasks.
        title: its name for readers.
        needs: keys of the tasks that come before it.
        work: the function, which is pickled to a process.
        frames: how much work it is, about, in frames.
        share_done: returns which share of a running task is done.
    """

    key: str
    title: str
    needs: frozenset[str]
    work: Callable[[], Any]
    frames: float
    share_done: Callable[[], float] = lambda: 0.0


@dataclass
class _State:
    """How far the tasks are."""

    waiting: dict[str, Task]
    running: dict[str, Task] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    tries: Counter[str] = field(default_factory=Counter)

    def end(self, ended: Finished, console: Console) -> None:
        """Note how a task has ended; one that may pass another time waits again, up to `MOST_TRIES` times in all."""
        task = self.running.pop(ended.name)
        self.tries[task.key] += 1
        if not ended.error:
            self.results[task.key] = ended.result
        elif ended.may_pass and self.tries[task.key] < MOST_TRIES:
            self.waiting[task.key] = task
        else:
            self.failures[task.key] = ended.error
            console.print(f"failed: {task.title}: {ended.error}", markup=False, highlight=False)

    def drop_hopeless(self) -> None:
        """Let the tasks fail that need a failed one."""
        while lost := [task for task in self.waiting.values() if task.needs & self.failures.keys()]:
            for task in lost:
                cause = next(key for key in task.needs if key in self.failures)
                self.failures[task.key] = self.failures[cause]
                del self.waiting[task.key]

    def ready(self) -> list[Task]:
        """Return the tasks that can start, in their order."""
        unfinished = self.waiting.keys() | self.running.keys()
        return [task for task in self.waiting.values() if not task.needs & unfinished]


@dataclass(frozen=True)
class Outcome:
    """What has become of tasks.

    Attributes:
        results: what the tasks have returned, by key.
        failures: why tasks have failed, by key.
    """

    results: Mapping[str, Any]
    failures: Mapping[str, str]


def run_tasks(tasks: Sequence[Task], workers: int, console: Console) -> Outcome:
    """Run tasks in processes of their own, in the given order as far as their needs allow.

    Args:
        tasks: a task needs only tasks of the sequence, and only earlier ones.
        workers: number of processes at once.
        console: where the progress is shown, and every failure at once.
    """
    from heal.agents.on_ray.tasks import TaskPool

    if not tasks:
        return Outcome({}, {})
    state = _State({task.key: task for task in tasks})
    with new_progress(console) as progress, TaskPool() as pool:
        bar = progress.add_task("", total=sum(task.frames for task in tasks))
        while state.waiting or state.running:
            for task in state.ready()[: max(workers - len(state.running), 0)]:
                pool.start(task.key, task.work)
                state.running[task.key] = state.waiting.pop(task.key)
            for ended in pool.wait(POLL_S):
                state.end(ended, console)
            state.drop_hopeless()
            _show(progress, bar, tasks, state)
    return Outcome(state.results, state.failures)


def _show(progress: Progress, bar: TaskID, tasks: Sequence[Task], state: _State) -> None:
    ended = state.results.keys() | state.failures.keys()
    frames = sum(task.frames * _share(task, ended, state.running) for task in tasks)
    now = "; ".join(task.title for task in state.running.values())
    progress.update(bar, completed=round(frames), description=f"{len(ended)} of {len(tasks)} tasks done; now: {now or 'nothing'}")


def _share(task: Task, ended: set[str], running: Mapping[str, Task]) -> float:
    return 1.0 if task.key in ended else task.share_done() if task.key in running else 0.0
