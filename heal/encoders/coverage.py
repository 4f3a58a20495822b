"""Agents whose own maps cover another range than the alliance's, as cameras' do: fitting their maps, telling how far they reach."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch.nn.functional as F
from torch import Tensor

from heal.grid import BevGrid


@runtime_checkable
class OwnRange(Protocol):
    """Settings of an encoder whose map covers a range of its own."""

    def coverage(self, grid: BevGrid) -> tuple[float, float]:
        """The alliance's range over the encoder's own, in x and y."""
        ...


def fit_to_grid(maps: Tensor, grid: BevGrid) -> Tensor:
    """Cut maps (N, C, any, any) with cells of the grid's size to the grid around their middle, or surround them with zeros."""
    height, width = maps.shape[-2:]
    top, bottom = _margins(height, grid.ny)
    left, right = _margins(width, grid.nx)
    return maps if not any((top, bottom, left, right)) else F.pad(maps, (left, right, top, bottom))


def _margins(cells: int, wanted: int) -> tuple[int, int]:
    """Cells to add before and behind; negative ones are cut off. Of an odd number HEAL adds one more behind, and cuts to even."""
    before = (wanted - cells) // 2 if wanted >= cells else -round((cells - wanted) / 2)
    return before, wanted - cells - before
