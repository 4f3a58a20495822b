"""Which cells are sent: foreground scores put all cells of all scales in one order, of which a message takes the first so many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from heal.types import Float32, Int64

Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class CellOrder:
    """All cells that may be sent, the best first.

    Attributes:
        ranks: per scale (ny, nx), a cell's place in the order; `count` and more for one that may not be sent.
        count: how many may be sent.
    """

    ranks: tuple[Int64, ...]
    count: int

    @staticmethod
    def of(scores: Sequence[Float32], min_score: float) -> CellOrder:
        """By falling score; among equals the finer scale, the upper row, the left column come first."""
        joined = np.concatenate([level.reshape(-1) for level in scores])
        ranks = np.empty(len(joined), np.int64)
        ranks[np.argsort(-joined, kind="stable")] = np.arange(len(joined))
        ends = np.cumsum([level.size for level in scores])[:-1]
        parts = zip(np.split(ranks, ends), scores, strict=True)
        allowed = (joined > 0) & (joined >= min_score)
        return CellOrder(tuple(part.reshape(level.shape) for part, level in parts), int(allowed.sum()))

    def first(self, count: int) -> tuple[Mask, ...]:
        """Per scale (ny, nx), which cells are among the first `count`."""
        return tuple(rank < min(count, self.count) for rank in self.ranks)


def fit(order: CellOrder, room_bytes: int | None, encode: Callable[[tuple[Mask, ...]], bytes]) -> bytes:
    """The encoding of as many of the first cells as fit into `room_bytes`; that of none where even they do not fit."""
    whole = encode(order.first(order.count))
    if room_bytes is None or len(whole) <= room_bytes:
        return whole
    best, fits, too_many = encode(order.first(0)), 0, order.count
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        trial = encode(order.first(middle))
        if len(trial) <= room_bytes:
            best, fits = trial, middle
        else:
            too_many = middle
    return best
