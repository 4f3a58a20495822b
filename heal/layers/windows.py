"""Windows of maps: a map is cut into windows of cells, something is computed in every window, and the map is put together again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

# From the cells (X, N, T, C) of X windows with T cells each, and a mask (X, T) of those that lie on the map, or None if all do, to
# values (X, M, T, D).
InWindows: TypeAlias = "Callable[[Tensor, Tensor | None], Tensor]"


@dataclass(frozen=True)
class Windows:
    """Windows of `size` x `size` cells, which together hold every cell of a map once.

    A map that the size does not divide is padded with zeros behind its last row and column.

    Attributes:
        size: rows and columns of a window.
        spread: whether a window's cells lie evenly spread over the whole map, at steps of ny / `size` and nx / `size` cells, and
            not next to each other.
    """

    size: int
    spread: bool = False

    def apply(self, maps: Tensor, compute: InWindows) -> Tensor:
        """Compute the windows of maps (N, ny, nx, C).

        Without gradients, one row of windows comes after the other: all of a row's cells fit into a cache. With gradients
        everything is kept until the way back, and all windows together are two to three times as fast as thousands of small steps.

        Returns:
            The values that `compute` returns, as maps (M, ny, nx, D).
        """
        ny, nx = maps.shape[1:3]
        down, right = -ny % self.size, -nx % self.size
        padded = F.pad(maps, (0, 0, 0, right, 0, down)) if down or right else maps
        masks = self._masks(maps, down, right) if down or right else None
        cut = self._cut(padded)
        if torch.is_grad_enabled():
            windows = compute(cut.flatten(0, 1).flatten(2, 3), None if masks is None else masks.flatten(0, 1))
            return self._joined(windows.view(*cut.shape[:2], *windows.shape[1:]))[:, :ny, :nx]
        rows = (compute(row.flatten(2, 3), None if masks is None else masks[y]) for y, row in enumerate(cut))
        return self._filled(rows, padded.shape)[:, :ny, :nx]

    def _cut(self, maps: Tensor) -> Tensor:
        """Cut maps (N, ny, nx, C) into Y x X windows: (Y, X, N, size, size, C), without a copy."""
        count, ny, nx, channels = maps.shape
        w, y, x = self.size, ny // self.size, nx // self.size
        if self.spread:
            return maps.view(count, w, y, w, x, channels).permute(2, 4, 0, 1, 3, 5)
        return maps.view(count, y, w, x, w, channels).permute(1, 3, 0, 2, 4, 5)

    def _filled(self, rows: Iterator[Tensor], shape: torch.Size) -> Tensor:
        """Put rows (X, M, T, D) of windows into maps, each as soon as it is there; `shape` is (N, ny, nx, C)."""
        first = next(rows)
        maps = first.new_empty(first.shape[1], *shape[1:3], first.shape[3])
        for place, row in zip(self._cut(maps), chain([first], rows), strict=True):
            place.copy_(row.view(place.shape))
        return maps

    def _joined(self, windows: Tensor) -> Tensor:
        """Put the values (Y, X, M, T, D) of windows together to maps (M, ny, nx, D)."""
        y, x, count, _, channels = windows.shape
        apart = windows.view(y, x, count, self.size, self.size, channels)
        ordered = apart.permute(2, 3, 0, 4, 1, 5) if self.spread else apart.permute(2, 0, 3, 1, 4, 5)
        return ordered.reshape(count, y * self.size, x * self.size, channels)

    def _masks(self, maps: Tensor, down: int, right: int) -> Tensor:
        """Return the cells (Y, X, T) bool of windows that lie on the map, not on its padding."""
        inside = torch.ones(1, *maps.shape[1:3], 1, dtype=torch.bool, device=maps.device)
        return self._cut(F.pad(inside, (0, 0, 0, right, 0, down))).flatten(2)


def relative_index(sizes: tuple[int, ...]) -> Tensor:
    """Return the index (T, T) of the step from cell to cell of a window in a table of all steps.

    Args:
        sizes: cells of the window along each of its axes, the slowest first; their product is T.

    Returns:
        For every pair (i, j) the place, in a table with 2 * size - 1 entries along each axis, of the steps from cell j to cell i;
        the first entry along an axis is for the step 1 - size.
    """
    places = torch.cartesian_prod(*(torch.arange(size) for size in sizes)).view(-1, len(sizes))
    steps = places[:, None] - places[None] + torch.tensor(sizes) - 1
    index = torch.zeros(steps.shape[:2], dtype=torch.int64)
    for axis, size in enumerate(sizes):
        index = index * (2 * size - 1) + steps[..., axis]
    return index
