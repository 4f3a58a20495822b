"""Fuzzing in child processes: inputs by number, the time and the memory that they take, and what breaks the rules.

A decoder's rules: any input is accepted or refused by the one named error, in at most `MOST_S` of computing time and with at most
`MOST_BYTES` of memory. The operating system holds a child process to the limit of memory, so that an input that asks for more fails
with a MemoryError and is found. A child that hangs or dies is ended, its input is noted, and another child goes on behind it.
"""

from __future__ import annotations

import logging
import multiprocessing
import resource
import shutil
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from tests.long.decoder import Decoder
from tests.long.decoders import DECODERS
from tests.long.fuzzed_node import VARIANTS, fuzzed_node

MOST_S = 1.0
MOST_BYTES = 200 << 20
HANG_S = 120.0
"""Seconds by the clock after which an input counts as hanging; more than `MOST_S`, because other processes may use the cores."""

_CHUNK = 200
_MEMORY = Path("/dev/shm")
MAKERS = {**DECODERS, **{name: partial(fuzzed_node, name) for name in VARIANTS}}
"""Makes each decoder by its name; a folder is its workplace."""


@dataclass(frozen=True)
class Failure:
    """An input that breaks a rule.

    Attributes:
        index: its number.
        problem: what it did.
    """

    index: int
    problem: str


@dataclass
class Tally:
    """What became of some inputs.

    Attributes:
        taken: how many were taken how: "accepted", or the named error; of a fusion node the reason of the rejection.
        slowest_s: the longest computing time of an input.
        growth_bytes: by how much decoding has raised the largest size of the process; no input takes more.
        failures: the inputs that break a rule.
    """

    taken: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    growth_bytes: int = 0
    failures: list[Failure] = field(default_factory=list)

    @property
    def inputs(self) -> int:
        """The number of inputs."""
        return self.taken.total() + len(self.failures)

    def add(self, other: Tally) -> None:
        """Add what became of other inputs."""
        self.taken += other.taken
        self.slowest_s = max(self.slowest_s, other.slowest_s)
        self.growth_bytes += other.growth_bytes
        self.failures += other.failures


def tally(decoder: Decoder, seed: str, indices: Iterable[int]) -> Tally:
    """Take inputs and note what becomes of them; memory is measured, but not limited."""
    found = Tally()
    for index in indices:
        data, problem = decoder.input(seed, index), ""
        before, began = _peak_bytes(), time.process_time()
        try:
            how = decoder.take(data)
        except Exception as error:  # noqa: BLE001 - any error but the named one is what is looked for
            problem = f"{type(error).__name__}: {error} ({_place(error)})"[:500]
        took_s = time.process_time() - began
        found.growth_bytes += _peak_bytes() - before
        found.slowest_s = max(found.slowest_s, took_s)
        if not problem and took_s > MOST_S:
            problem = f"took {took_s:.1f} s"
        if problem:
            found.failures.append(Failure(index, problem))
        else:
            found.taken[how] += 1
    return found


def fuzz(name: str, seed: str, inputs: int, processes: int) -> Tally:
    """Take inputs 0 to `inputs` of a seed in child processes, each with every n-th of them."""
    total = Tally()
    children = [_Child(name, seed, range(place, inputs, processes)) for place in range(processes)]
    while children:
        for child in list(children):
            for part in child.news():
                total.add(part)
            if child.is_done:
                children.remove(child)
    return total


class _Child:
    """A process that takes inputs, and its successors if it dies."""

    def __init__(self, name: str, seed: str, indices: range) -> None:
        self._name, self._seed, self._left = name, seed, indices
        self._start()

    @property
    def is_done(self) -> bool:
        """Whether all inputs are taken."""
        return not self._left

    def news(self) -> Iterator[Tally]:
        """Wait a little, and yield what became of more inputs."""
        if self._results.poll(1.0):
            try:
                count, part = self._results.recv()
            except EOFError:
                yield self._lost("ends the process")
                return
            self._left, self._heard_s = self._left[count:], time.monotonic()
            yield part
        elif time.monotonic() - self._heard_s > HANG_S and time.monotonic() - self._began.value > HANG_S:
            yield self._lost(f"hangs for {HANG_S:.0f} s")

    def _start(self) -> None:
        # A copy of this process needs no seconds to import torch. Nothing has computed here, so no thread is missing in the copy.
        context = multiprocessing.get_context("fork")
        self._at, self._began = context.Value("q", -1), context.Value("d", time.monotonic() + HANG_S)
        self._results, sending = context.Pipe(duplex=False)
        args = (self._name, self._seed, self._left, self._at, self._began, sending)
        self._process, self._heard_s = context.Process(target=_work, args=args, daemon=True), time.monotonic()
        self._process.start()
        sending.close()

    def _lost(self, problem: str) -> Tally:
        """End the process, go on behind the input that it was at, and return this input's failure."""
        self._process.kill()
        self._process.join()
        index = int(self._at.value)
        if index < 0:
            raise RuntimeError(f"{self._name}: the process has ended before its first input; its error is above")
        self._left = self._left[self._left.index(index) + 1 :]
        if self._left:
            self._start()
        return Tally(failures=[Failure(index, problem)])


def _work(name: str, seed: str, indices: range, at: Any, began: Any, results: Connection) -> None:
    """Take inputs in a process of its own, under a limit of memory, and send what became of every few of them."""
    with workplace() as folder:
        decoder = limited(name, folder)
        for first in range(0, len(indices), _CHUNK):
            chunk = indices[first : first + _CHUNK]
            results.send((len(chunk), tally(decoder, seed, _noted(chunk, at, began))))


def _noted(indices: range, at: Any, began: Any) -> Iterator[int]:
    """Yield numbers of inputs, each noted where the parent sees it."""
    for index in indices:
        at.value, began.value = index, time.monotonic()
        yield index


class workplace:  # noqa: N801 - used as a function
    """A folder for a decoder's files, in memory where that can be, deleted at the end."""

    def __enter__(self) -> Path:
        """Make the folder."""
        self._path = Path(tempfile.mkdtemp(prefix="fuzz-", dir=_MEMORY if _MEMORY.is_dir() else None))
        return self._path

    def __exit__(self, *_: object) -> None:
        """Delete it."""
        shutil.rmtree(self._path, ignore_errors=True)


def limited(name: str, folder: Path) -> Decoder:
    """Make a decoder, take its valid inputs, and then hold this process to `MOST_BYTES` more memory than it has."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    decoder = MAKERS[name](folder)
    for data in decoder.seeds:
        decoder.take(data)
    limit = _data_bytes() + MOST_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    return decoder


def _data_bytes() -> int:
    """Return the memory that this process has for data; Linux alone tells it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmData")) << 10


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _place(error: Exception) -> str:
    """Return the last places in the code that an error came through."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
