"""One function over many parts of work, in several processes: the results come in the order of the parts."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.queues import SimpleQueue
from typing import TypeVar

from heal.agents.process import end_with_parent

Part = TypeVar("Part")
Result = TypeVar("Result")


def in_processes(
    work: Callable[[Part], Result], parts: Sequence[Part], processes: int, prepare: Callable[[int], None] | None = None
) -> Iterator[Result]:
    """Yield the result of each part. An error in a part ends the other parts too, which are of no use without it.

    Args:
        work: the function; it is pickled, as are the parts and the results.
        parts: what the function takes.
        processes: number of processes at most.
        prepare: called once in each process, before its first part, with the number of the process from 0; it is pickled.
    """
    context, count = multiprocessing.get_context("spawn"), min(processes, len(parts))
    numbers: SimpleQueue[int] = context.SimpleQueue()
    for number in range(count):
        numbers.put(number)
    with ProcessPoolExecutor(count, context, _begin, (prepare, numbers)) as pool:
        try:
            yield from pool.map(work, parts)
        except BaseException:
            for child in multiprocessing.active_children():
                child.terminate()
            pool.shutdown(cancel_futures=True)
            raise


def _begin(prepare: Callable[[int], None] | None, numbers: SimpleQueue[int]) -> None:
    end_with_parent()
    if prepare is not None:
        prepare(numbers.get())
