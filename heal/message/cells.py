"""Choose the cells to send: foreground scores rank the cells of all scales together, and a message takes the best of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from heal.types import BoolMask, Float32, Int64, Split

# Share of its best neighbour's score that a cell is worth at least; found by trial on the built-in town. Under the feature split
# the trunk still has to run, and its convolutions read the surroundings of a vehicle. Under the pyramid split a cell already holds
# its surroundings, and only interpolation mixes neighbours.
_NEIGHBOUR_SHARE: dict[Split, float] = {"feature": 0.5, "pyramid": 0.1}

# The search for the number of cells that fit: bytes per cell of its first guess, share of the room that may stay empty, trials.
_FIRST_BYTES_PER_CELL = 64
_SPARE = 0.01
_TRIALS = 12


@dataclass(frozen=True)
class CellOrder:
    """The ranks of all cells that may be sent, the best first.

    Attributes:
        ranks: per scale (ny, nx), the rank of every cell from 0; `count` or more for a cell that may not be sent.
        count: number of cells that may be sent.
    """

    ranks: tuple[Int64, ...]
    count: int

    @staticmethod
    def of(scores: Sequence[Float32], channels: Sequence[int], split: Split, min_score: float) -> CellOrder:
        """Rank the cells by falling worth; of equal cells the finer scale, the upper row, the left column come first.

        The worth of a cell is its score or a share of its best neighbour's score, whichever is more: the surroundings of the
        foreground are needed too. At a coarse scale a cell has more channels and takes more bytes, so its worth is divided by the
        square root of the ratio of channels.

        Args:
            scores: per scale (ny, nx).
            channels: per scale.
            split: the side of the link on which the trunk runs.
            min_score: cells with a lower score may not be sent.
        """
        allowed = np.concatenate([((level > 0) & (level >= min_score)).reshape(-1) for level in scores])
        worths = [
            np.maximum(level, _NEIGHBOUR_SHARE[split] * _best_in_neighbourhood(level)) * np.float32(math.sqrt(channels[0] / width))
            for level, width in zip(scores, channels, strict=True)
        ]
        joined = np.where(allowed, np.concatenate([level.reshape(-1) for level in worths]), -1)
        ranks = np.empty(len(joined), np.int64)
        ranks[np.argsort(-joined, kind="stable")] = np.arange(len(joined))
        parts = np.split(ranks, np.cumsum([level.size for level in scores])[:-1])
        return CellOrder(tuple(part.reshape(level.shape) for part, level in zip(parts, scores, strict=True)), int(allowed.sum()))

    def first(self, count: int) -> tuple[BoolMask, ...]:
        """Return, per scale (ny, nx), which cells are among the first `count`."""
        return tuple(rank < min(count, self.count) for rank in self.ranks)


def _best_in_neighbourhood(scores: Float32) -> Float32:
    """Return the highest score of every cell and its eight neighbours; (ny, nx) to (ny, nx)."""
    nx = scores.shape[1]
    padded = np.pad(scores, 1)
    rows = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
    best: Float32 = np.maximum(np.maximum(rows[:, :nx], rows[:, 1 : nx + 1]), rows[:, 2:])
    return best


class Sized(Protocol):
    """Anything with a length in bytes."""

    def __len__(self) -> int:
        """Return the length in bytes."""
        ...


Encoded = TypeVar("Encoded", bound=Sized)


def fit(order: CellOrder, room_bytes: int | None, encode: Callable[[Sequence[BoolMask]], Encoded]) -> Encoded:
    """Encode as many of the first cells as fit into `room_bytes`; no cell if even an empty encoding does not fit.

    The length grows almost linearly with the number of cells. So the next number to try is interpolated between a number that fits
    and a number that does not, and a few trials come close enough. As zstd's lengths are uneven, the result may miss a few cells.

    Args:
        order: the ranks of the cells.
        room_bytes: the longest allowed encoding; None for no limit.
        encode: encodes the cells in the masks, per scale (ny, nx).
    """
    if room_bytes is None:
        return encode(order.first(order.count))
    best, enough, goal = encode(order.first(0)), room_bytes * (1 - _SPARE), room_bytes * (1 - _SPARE / 2)
    # Pairs (cells, bytes) between which to interpolate: the most cells that fit, and the fewest that do not or else the last trial.
    low, other, too_many = (0, len(best)), (0, len(best)), order.count + 1
    number = room_bytes // _FIRST_BYTES_PER_CELL
    for _ in range(_TRIALS):
        if low[1] >= enough or too_many - low[0] == 1:
            break
        number = min(max(number, low[0] + 1), too_many - 1)
        trial = encode(order.first(number))
        if len(trial) > room_bytes:
            too_many, other = number, (number, len(trial))
        else:
            best, low, other = trial, (number, len(trial)), other if other[0] > number else low
        cells_per_byte = (other[0] - low[0]) / ((other[1] - low[1]) or 1)
        number = low[0] + int((goal - low[1]) * cells_per_byte)
    return best
