"""Which cells are sent: foreground scores put all cells of all scales in one order, of which a message takes the first so many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from heal.types import Float32, Int64

Mask: TypeAlias = npt.NDArray[np.bool_]

# A search for the number of cells that fit: its first guess, when it has come close enough (as a share of the room), its patience.
_FIRST_BYTES_PER_CELL = 64
_ENOUGH = 0.005
_TRIALS = 12


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


class Sized(Protocol):
    """Anything with a length in bytes."""

    def __len__(self) -> int:
        """Its length."""
        ...


Encoded = TypeVar("Encoded", bound=Sized)


def fit(order: CellOrder, room_bytes: int | None, encode: Callable[[Sequence[Mask]], Encoded]) -> Encoded:
    """The encoding of as many of the first cells as fit into `room_bytes`; that of none where even they do not fit.

    Lengths grow almost evenly with the number of cells, so that a straight line between a number that fits and one that does not
    leads to the next trial; a few come close enough. (zstd makes lengths uneven: a few cells more might fit than are found.)
    """
    if room_bytes is None:
        return encode(order.first(order.count))
    best, fits = encode(order.first(0)), 0
    too_many, excess = order.count + 1, 0
    guess = room_bytes // _FIRST_BYTES_PER_CELL
    for _ in range(_TRIALS):
        spare = room_bytes - len(best)
        if spare <= _ENOUGH * room_bytes or too_many - fits == 1:
            break
        number = min(max(guess, fits + 1), too_many - 1)
        trial = encode(order.first(number))
        if len(trial) <= room_bytes:
            gained = max(len(trial) - len(best), 1)
            guess = number + (room_bytes - len(trial)) * (number - fits) // gained
            best, fits = trial, number
        else:
            too_many, excess = number, len(trial) - room_bytes
        if excess:
            spare = room_bytes - len(best)
            guess = fits + int((too_many - fits) * spare / (spare + excess))
    return best
