"""Which cells are sent: foreground scores put all cells of all scales in one order, of which a message takes the first so many."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from heal.types import Float32, Int64, Split

Mask: TypeAlias = npt.NDArray[np.bool_]

# How much of its best neighbour's score a cell is worth; found by trial on the built-in town. Where the trunk is still to come, its
# convolutions look at what surrounds a vehicle; past it, a cell holds that already, and only interpolation mixes neighbours.
_NEIGHBOUR_SHARE: dict[Split, float] = {"feature": 0.5, "pyramid": 0.1}

# A search for the number of cells that fit: its first guess, the share of the room that it may leave empty, its patience.
_FIRST_BYTES_PER_CELL = 64
_SPARE = 0.01
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
    def of(scores: Sequence[Float32], channels: Sequence[int], split: Split, min_score: float) -> CellOrder:
        """By falling worth; among equals the finer scale, the upper row, the left column come first.

        A cell is worth its score, or a share of its best neighbour's: what surrounds the foreground belongs to it. At a coarse
        scale a cell has more channels and takes more bytes: its worth falls with their root.

        Args:
            scores: per scale (ny, nx).
            channels: per scale.
            split: where the trunk computes.
            min_score: no cell with a lower score may be sent.
        """
        allowed = np.concatenate([((level > 0) & (level >= min_score)).reshape(-1) for level in scores])
        worths = [
            np.maximum(level, _NEIGHBOUR_SHARE[split] * _best_around(level)) * np.float32(math.sqrt(channels[0] / width))
            for level, width in zip(scores, channels, strict=True)
        ]
        joined = np.where(allowed, np.concatenate([level.reshape(-1) for level in worths]), -1)
        ranks = np.empty(len(joined), np.int64)
        ranks[np.argsort(-joined, kind="stable")] = np.arange(len(joined))
        parts = np.split(ranks, np.cumsum([level.size for level in scores])[:-1])
        return CellOrder(tuple(part.reshape(level.shape) for part, level in zip(parts, scores, strict=True)), int(allowed.sum()))

    def first(self, count: int) -> tuple[Mask, ...]:
        """Per scale (ny, nx), which cells are among the first `count`."""
        return tuple(rank < min(count, self.count) for rank in self.ranks)


def _best_around(scores: Float32) -> Float32:
    """(ny, nx), the highest score of a cell and its eight neighbours."""
    nx = scores.shape[1]
    padded = np.pad(scores, 1)
    rows = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
    best: Float32 = np.maximum(np.maximum(rows[:, :nx], rows[:, 1 : nx + 1]), rows[:, 2:])
    return best


class Sized(Protocol):
    """Anything with a length in bytes."""

    def __len__(self) -> int:
        """Its length."""
        ...


Encoded = TypeVar("Encoded", bound=Sized)


def fit(order: CellOrder, room_bytes: int | None, encode: Callable[[Sequence[Mask]], Encoded]) -> Encoded:
    """The encoding of as many of the first cells as fit into `room_bytes`; that of none where even they do not fit.

    Lengths grow almost evenly with the number of cells, so that a straight line between a number that fits and one that does not
    leads to the next trial, and a few come close enough. (zstd makes lengths uneven: a few cells more might fit than are found.)
    """
    if room_bytes is None:
        return encode(order.first(order.count))
    best, enough, goal = encode(order.first(0)), room_bytes * (1 - _SPARE), room_bytes * (1 - _SPARE / 2)
    # Numbers of cells with the lengths that they gave: the most that fit, and beside them the fewest that
    # do not, or else the trial before.
    low, beside, too_many = (0, len(best)), (0, len(best)), order.count + 1
    number = room_bytes // _FIRST_BYTES_PER_CELL
    for _ in range(_TRIALS):
        if low[1] >= enough or too_many - low[0] == 1:
            break
        number = min(max(number, low[0] + 1), too_many - 1)
        trial = encode(order.first(number))
        if len(trial) > room_bytes:
            too_many, beside = number, (number, len(trial))
        else:
            best, low, beside = trial, (number, len(trial)), beside if beside[0] > number else low
        cells_per_byte = (beside[0] - low[0]) / ((beside[1] - low[1]) or 1)
        number = low[0] + int((goal - low[1]) * cells_per_byte)
    return best
