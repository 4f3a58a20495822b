"""A row of `heal bench`, and the timer behind every row."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch


@dataclass(frozen=True)
class Timing:
    """Wall-clock time of one call, measured several times.

    Attributes:
        seconds: median over the rounds.
        spread: half of the interquartile range, divided by the median.
    """

    seconds: float
    spread: float

    @staticmethod
    def of(times_s: list[float]) -> Timing:
        """Summarise the seconds of all rounds."""
        middle = statistics.median(times_s)
        low, _, high = statistics.quantiles(times_s, n=4) if len(times_s) > 1 else (middle,) * 3
        return Timing(middle, (high - low) / 2 / middle if middle else 0.0)


@dataclass(frozen=True)
class BenchRow:
    """One row of a bench. A number that does not apply to the row is None.

    Attributes:
        name: bench and case, such as "frame/m1x2".
        seconds: median over the rounds.
        flops: floating-point operations of the dense layers; a multiplication and an addition count as two.
        yardstick_fraction: operations per second of this row, divided by those of the yardstick in the same dtype. The yardstick is
            a dense convolution measured on the same machine.
        speedup_over_plain: seconds of the plain form divided by the seconds of this row, both measured in the same rounds or in the
            same run.
        threads: number of threads that torch may use.
        dtype: number format of the dense layers.
        spread: half of the interquartile range of the rounds, divided by the median.
        value: the measured number of a row that is not a time.
        unit: unit of `value`; "" for a ratio.
        note: description of the case, or a comparison with another row.
    """

    name: str
    seconds: float | None = None
    flops: float | None = None
    yardstick_fraction: float | None = None
    speedup_over_plain: float | None = None
    threads: int = 1
    dtype: str = "float32"
    spread: float | None = None
    value: float | None = None
    unit: str = ""
    note: str = ""

    @staticmethod
    def of(name: str, timing: Timing, note: str = "", plain: Timing | None = None) -> BenchRow:
        """Make the row of a time measured with torch's present number of threads.

        Args:
            name: bench and case, such as "frame/m1x2".
            timing: time of our code.
            note: description of the case.
            plain: time of the plain form; None leaves out the speed-up.
        """
        speedup = None if plain is None else plain.seconds / timing.seconds
        return BenchRow(
            name, timing.seconds, speedup_over_plain=speedup, threads=torch.get_num_threads(), spread=timing.spread, note=note
        )

    def of_flops(self, flops: float, yardstick_flops_per_s: float, dtype: str) -> BenchRow:
        """Return this row, which must hold a time, with the work of its dense layers.

        Args:
            flops: floating-point operations of the dense layers.
            yardstick_flops_per_s: operations per second of the yardstick in the same dtype.
            dtype: number format of the dense layers.
        """
        assert self.seconds is not None, "the row must hold a time"
        return replace(self, flops=flops, yardstick_fraction=flops / self.seconds / yardstick_flops_per_s, dtype=dtype)


def timed(*calls: Callable[[], Any], repeats: int = 7, warm_up: int = 1) -> tuple[Timing, ...]:
    """Time several calls in turn. Every round runs each call once, so that other load on the machine slows all calls alike.

    Args:
        calls: functions to time. On a GPU each function must wait for its result.
        repeats: number of rounds that are measured.
        warm_up: number of rounds before the measured ones. They allocate memory and fill caches.

    Returns:
        One timing for each call, in the order of the calls.
    """
    times_s: list[list[float]] = [[] for _ in calls]
    for turn in range(warm_up + repeats):
        for call, own in zip(calls, times_s, strict=True):
            began = time.perf_counter()
            call()
            if turn >= warm_up:
                own.append(time.perf_counter() - began)
    return tuple(map(Timing.of, times_s))


def timed_beside(call: Callable[[], Any], plain: Callable[[], Any] | None, repeats: int) -> tuple[Timing, Timing | None]:
    """Time a call and, in the same rounds, its plain form; None for the plain form if it is not given."""
    if plain is None:
        return timed(call, repeats=repeats)[0], None
    ours, other = timed(call, plain, repeats=repeats)
    return ours, other
