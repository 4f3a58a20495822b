"""Breaks the processes of a run on Ray at random: agents and fusion nodes are killed, or stopped so that they hang."""

from __future__ import annotations

import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Literal

import psutil

from tests.long.accounts.growth import role_of

Break = Literal["agent killed", "fusion node killed", "agent stopped", "fusion node stopped"]
# How often each happens: a process that hangs is waited for, which takes long.
WEIGHTS: dict[Break, int] = {"agent killed": 6, "fusion node killed": 2, "agent stopped": 1, "fusion node stopped": 1}


class Breaker:
    """A thread that breaks a process every few seconds; one agent's process is spared, to see whether it grows.

    Attributes:
        done: how many processes were broken, by kind.
    """

    def __init__(self, every_s: float, seed: int) -> None:
        """Break a process every `every_s` on average."""
        self.done: Counter[Break] = Counter()
        self._every_s, self._draws = every_s, random.Random(seed)
        self._spared: int | None = None
        self._stopped: list[psutil.Process] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="breaker", daemon=True)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Break processes in this context."""
        self._thread.start()
        try:
            yield
        finally:
            self._end.set()
            self._thread.join()

    def left_stopped(self, timeout_s: float) -> list[int]:
        """Return the processes that were stopped and are still there after `timeout_s`."""
        until_s = monotonic() + timeout_s
        _, alive = psutil.wait_procs(self._stopped, timeout=max(0.0, until_s - monotonic()))
        return [process.pid for process in alive]

    def _run(self) -> None:
        while not self._end.wait(self._draws.expovariate(1 / self._every_s)):
            kind = self._draws.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            targets = list(self._targets("ray::AgentActor" if kind.startswith("agent") else "ray::NodeActor"))
            if targets:
                self._break(kind, self._draws.choice(targets))

    def _targets(self, role: str) -> Iterator[psutil.Process]:
        """Yield the processes of a role that have not been broken, without the first agent's."""
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if role_of(process) == role and process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
                    if self._spared is None and role == "ray::AgentActor":
                        self._spared = process.pid
                    if process.pid != self._spared:
                        yield process

    def _break(self, kind: Break, process: psutil.Process) -> None:
        with suppress(psutil.Error):
            process.send_signal(signal.SIGKILL if kind.endswith("killed") else signal.SIGSTOP)
            self.done[kind] += 1
            if kind.endswith("stopped"):
                self._stopped.append(process)
