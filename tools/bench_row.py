"""A measurement of `heal bench`, and how it is taken."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch


@dataclass(frozen=True)
class Timing:
    """Repeats of one thing.

    Attributes:
        seconds: their median.
        spread: half the range between their quartiles, over the median.
    """

    seconds: float
    spread: float

    @staticmethod
    def of(times_s: list[float]) -> Timing:
        """Of the repeats' seconds."""
        middle = statistics.median(times_s)
        low, _, high = statistics.quantiles(times_s, n=4) if len(times_s) > 1 else (middle,) * 3
        return Timing(middle, (high - low) / 2 / middle if middle else 0.0)


@dataclass(frozen=True)
class BenchRow:
    """One line of a bench; what does not apply is None.

    Attributes:
        name: what was measured, such as "frame/m1x2".
        seconds: the median of the repeats.
        flops: floating-point operations of the dense layers, a multiplication and an addition counted as two.
        yardstick_fraction: operations per second over those of the yardstick, the machine's own dense convolution in that dtype.
        speedup_over_naive: the straightforward implementation's seconds over these, measured side by side.
        threads: that torch may use.
        dtype: of the dense layers.
        spread: half the range between the quartiles of the repeats, over the median.
        value: what is measured where it is not a time.
        unit: of the value.
        note: in words, what it is to be compared with.
    """

    name: str
    seconds: float | None = None
    flops: float | None = None
    yardstick_fraction: float | None = None
    speedup_over_naive: float | None = None
    threads: int = 1
    dtype: str = "float32"
    spread: float | None = None
    value: float | None = None
    unit: str = ""
    note: str = ""

    @staticmethod
    def of(name: str, timing: Timing, note: str = "", plain: Timing | None = None) -> BenchRow:
        """A time with torch's present threads, and that of the straightforward implementation if there is one."""
        speedup = None if plain is None else plain.seconds / timing.seconds
        return BenchRow(
            name, timing.seconds, speedup_over_naive=speedup, threads=torch.get_num_threads(), spread=timing.spread, note=note
        )

    def of_flops(self, flops: float, per_second: float, dtype: str) -> BenchRow:
        """The row with what its dense layers did, against a yardstick's operations per second."""
        assert self.seconds is not None, "of a time"
        return replace(self, flops=flops, yardstick_fraction=flops / self.seconds / per_second, dtype=dtype)


def timed(*calls: Callable[[], Any], repeats: int = 7, warm_up: int = 1) -> tuple[Timing, ...]:
    """Time calls side by side: in every round each of them once, so that whatever else the machine does befalls all alike.

    Args:
        calls: what to time; on a GPU each must wait for its result.
        repeats: rounds that count.
        warm_up: rounds before them, in which memory is taken and caches are filled.
    """
    times_s: list[list[float]] = [[] for _ in calls]
    for turn in range(warm_up + repeats):
        for call, own in zip(calls, times_s, strict=True):
            began = time.perf_counter()
            call()
            if turn >= warm_up:
                own.append(time.perf_counter() - began)
    return tuple(map(Timing.of, times_s))
