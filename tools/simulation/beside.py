"""Work beside a run's clock: a thread scores, writes, draws and shows the ticks that have been run."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType

import torch

from heal.agents.records import TickResult

# A run that is so many ticks ahead waits, so that results do not fill the memory.
MOST_WAITING = 32


class Beside:
    """Hands the ticks of a run to a thread, one after the other, so that what is done with them does not hold up the run.

    A context manager: at its end all ticks have been handled. An error of the thread is raised by the next call.
    """

    def __init__(self, handle: Callable[[TickResult], None]) -> None:
        """Handle every tick with a function."""
        self._handle = handle
        self._waiting: queue.Queue[TickResult | None] = queue.Queue(MOST_WAITING)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="beside the clock", daemon=True)

    def add(self, result: TickResult) -> None:
        """Hand over a tick; wait first if `MOST_WAITING` ticks are waiting."""
        self._raise_error()
        self._waiting.put(result)

    def _work(self) -> None:
        torch.set_num_threads(1)  # a new thread has as many as there are cores
        while (result := self._waiting.get()) is not None:
            if self._error is None:
                try:
                    self._handle(result)
                except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised in the thread of the run
                    self._error = error

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Beside:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Wait until all ticks have been handled; an error of the thread is raised unless the run has ended with one."""
        self._waiting.put(None)
        self._thread.join()
        if error is None:
            self._raise_error()
