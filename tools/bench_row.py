"""A measurement of `heal bench`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BenchRow:
    """One line of a bench.

    Attributes:
        name: what was measured, such as "runtime/ray".
        value: the median of the repeats.
        unit: of the value.
        compared: in words, what it is to be compared with.
        seconds: the median time of one unit of work, where the value is not that itself.
        threads: torch threads of each process.
        dtype: of the networks.
    """

    name: str
    value: float
    unit: str
    compared: str = ""
    seconds: float | None = None
    threads: int = 1
    dtype: str = "float32"
