"""Work beside a run's clock: a thread scores, shows and draws the ticks that have been run."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType

from heal.agents.records import TickResult

# A run that is so many ticks ahead waits, so that results do not fill the memory.
MOST_WAITING = 32


class Beside:
    """Hands the ticks of a run to a thread, one after the other, so that what is done with them does not hold up the run.

    A context manager: at its end all ticks have been handled. An error of the thread is raised by the next call.
    """

    def __init__(self, handle: Callable[[TickResult], None], draw: Callable[[TickResult], None], may_skip: bool) -> None:
        """Start without a tick.

        Args:
            handle: called with every tick.
            draw: called after it, except for ticks that were run before an error or Ctrl-C and wait at that time.
            may_skip: whether ticks are not drawn either where the run would have to wait for it.
        """
        self._handle, self._draw, self._may_skip = handle, draw, may_skip
        self._waiting: queue.Queue[TickResult | None] = queue.Queue(MOST_WAITING)
        self._error: BaseException | None = None
        self._hurries = False
        self._thread = threading.Thread(target=self._work, name="beside the clock", daemon=True)

    def add(self, result: TickResult) -> None:
        """Hand over a tick; wait first if `MOST_WAITING` ticks are waiting."""
        self._raise_error()
        self._waiting.put(result)

    def _work(self) -> None:
        while (result := self._waiting.get()) is not None:
            if self._error is None:
                try:
                    self._handle(result)
                    if not self._hurries and not (self._may_skip and self._waiting.qsize() > MOST_WAITING // 2):
                        self._draw(result)
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
        self._hurries = error is not None
        self._waiting.put(None)
        self._thread.join()
        if error is None:
            self._raise_error()
