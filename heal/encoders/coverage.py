"""Encoders with a range of their own: their maps cover another range than the alliance's grid, as those of camera encoders do.

Such a map is cut, or surrounded with zeros, to lie on the alliance's grid; beyond the encoder's own range its agent has no weight
in the fusion.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch.nn.functional as F
from torch import Tensor

from heal.grid import BevGrid


@runtime_checkable
class RangedEncoder(Protocol):
    """The settings of an encoder whose map has a range of its own.

    The settings of an encoder that always covers the alliance's range do not have this method.
    """

    def coverage(self, grid: BevGrid) -> tuple[float, float]:
        """Return the range of the alliance's `grid` divided by the encoder's own range, in x and y."""
        ...


def fit_to_grid(maps: Tensor, grid: BevGrid) -> Tensor:
    """Fit maps (N, C, rows, columns), whose cells are as large as the grid's, to the grid: (N, C, ny, nx).

    Maps that are larger than the grid are cut, smaller ones are surrounded with zeros; both around the middle.
    """
    height, width = maps.shape[-2:]
    top, bottom = _margins(height, grid.ny)
    left, right = _margins(width, grid.nx)
    return maps if not any((top, bottom, left, right)) else F.pad(maps, (left, right, top, bottom))


def _margins(cells: int, wanted: int) -> tuple[int, int]:
    """Return the number of cells to add before and behind; a negative number of cells is cut off.

    An odd number n of cells is divided as in HEAL: of n added cells, one more comes behind; of n cells to cut off, n / 2 rounded to
    an even number are cut off before.
    """
    before = (wanted - cells) // 2 if wanted >= cells else -round((cells - wanted) / 2)
    return before, wanted - cells - before
