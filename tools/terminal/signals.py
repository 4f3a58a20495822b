"""SIGTERM and SIGHUP end a command as Ctrl-C does: the results so far are written, and no process is left."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Sent by `docker stop`, `timeout` and batch systems, and when a terminal is closed.
ENDING = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def endings_as_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt in this process when it is asked to end; a signal that is ignored, as under nohup, stays ignored."""
    before = {number: signal.getsignal(number) for number in ENDING}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Handle a signal as Python handles Ctrl-C."""
    raise KeyboardInterrupt
