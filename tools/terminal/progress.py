"""Progress bars, all with the time that has passed, so that they show from the first second that a command is at work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from heal.tools.terminal.verbosity import shows_waiting

Item = TypeVar("Item")


class Bar:
    """One progress bar."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        """Take a bar that is shown."""
        self._progress, self._task = progress, task

    def describe(self, text: str) -> None:
        """Say what is being done."""
        self._progress.update(self._task, description=text)

    def advance(self) -> None:
        """Count one more."""
        self._progress.advance(self._task)


def new_progress(console: Console, transient: bool = False) -> Progress:
    """Make a display for bars; it shows nothing with --quiet.

    It shows nothing either where FORCE_COLOR makes a file or a notebook look like a terminal: every step of a bar would be kept.

    Args:
        console: on which it is shown.
        transient: whether the bars vanish at the end.
    """
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    looks_like_a_terminal = console.is_terminal and not console.file.isatty()
    return Progress(*columns, console=console, transient=transient, disable=looks_like_a_terminal or not shows_waiting())


@contextmanager
def progress_bar(text: str, total: int, console: Console, transient: bool = False) -> Iterator[Bar]:
    """Show a bar in this context, also before anything is done."""
    with new_progress(console, transient) as progress:
        yield Bar(progress, progress.add_task(text, total=total))


def track(items: Iterable[Item], text: str, total: int, console: Console, transient: bool = False) -> Iterator[Item]:
    """Yield items, and count on a bar those that have been dealt with."""
    with progress_bar(text, total, console, transient) as bar:
        for item in items:
            yield item
            bar.advance()
