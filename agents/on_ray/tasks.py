"""Work that is done piece by piece in other processes, where the end of one process is the end of one piece alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import ray
import torch
from typing_extensions import Self

from heal.agents.on_ray.cluster import ACTOR_CPUS, start_ray, stop_ray
from heal.agents.on_ray.replicas import last_line
from heal.agents.process import keep_freed_memory

_NO_MEMORY = "the machine ran out of memory, and Ray has ended the process; run fewer at once"


@dataclass(frozen=True)
class Finished:
    """A piece of work that has come to its end.

    Attributes:
        name: of the piece.
        result: what its function has returned; None after an error.
        error: why it failed, on one line; "" if it did not.
        may_pass: whether the work may succeed at another time: the machine, and not the work, was the cause.
    """

    name: str
    result: Any = None
    error: str = ""
    may_pass: bool = False


class TaskPool:
    """Pieces of work in processes of Ray, each with one thread on the CPU; whoever starts them decides how many run at once."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._running: dict[Any, str] = {}
        self._remote = ray.remote(num_cpus=ACTOR_CPUS, max_retries=0)(_in_task)
        self._started = False

    def __enter__(self) -> Self:
        """Use the Ray of this process, or start one."""
        self._started = start_ray()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End the pieces that still run, and the Ray that was started."""
        for reference in self._running:
            ray.cancel(reference, force=True)
        self._running.clear()
        if self._started:
            stop_ray()

    @property
    def running(self) -> tuple[str, ...]:
        """The names of the pieces that run, in the order in which they were started."""
        return tuple(self._running.values())

    def start(self, name: str, work: Callable[[], Any]) -> None:
        """Start a piece of work; the function is pickled to its process."""
        self._running[self._remote.remote(work)] = name

    def wait(self, timeout_s: float) -> list[Finished]:
        """Return the pieces that have ended, as soon as one has; none after `timeout_s`."""
        done, _ = ray.wait(list(self._running), timeout=timeout_s)
        return [self._finish(reference) for reference in done]

    def _finish(self, reference: Any) -> Finished:
        name = self._running.pop(reference)
        try:
            return Finished(name, ray.get(reference))
        except ray.exceptions.OutOfMemoryError:
            return Finished(name, error=_NO_MEMORY, may_pass=True)
        except ray.exceptions.RayError as error:
            return Finished(name, error=_cause(last_line(error)))


def _cause(text: str) -> str:
    """Return the line of an error without the name of the class, where the class is ours and the message says all."""
    return re.sub(r"^heal\.[\w.]+: ", "", text)


def _in_task(work: Callable[[], Any]) -> Any:
    keep_freed_memory()
    torch.set_num_threads(1)
    return work()
