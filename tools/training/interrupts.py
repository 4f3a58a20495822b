"""Ctrl-C between two steps: a checkpoint is then of whole steps, and a resumed training ends with the same weights."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold signals back until the end of the block, if their handler is a function, such as that of Ctrl-C; a second acts at once.

    Outside the main thread, which alone receives signals, nothing is held back.
    """
    here = threading.current_thread() is threading.main_thread()
    before = {number: handler for number in _SIGNALS if here and callable(handler := signal.getsignal(number))}
    pending: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        pending.append(number)
        if len(pending) > 1:
            before[signal.Signals(number)](number, frame)

    for number in before:
        signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if pending:
        before[signal.Signals(pending[0])](pending[0], None)


def ignore_interrupts() -> None:
    """Make a helper process ignore Ctrl-C, which reaches all processes of a terminal: its parent ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
