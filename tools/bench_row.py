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
    """

    name: str
    value: float
    unit: str
    compared: str = ""
