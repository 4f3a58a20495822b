"""Where vehicles are on an agent's map, and where there is none: the patches that a liar copies, plants and erases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from heal.grid import BevGrid
from heal.types import BoolMask, Float64, Int64

RADIUS_M = 3.2
"""Half the edge of a patch, which holds a vehicle."""

_PLANTED = 3
_NEAR_M, _FAR_M = 8.0, 30.0  # where vehicles are planted
_CLEAR_M = 7.0  # no vehicle is nearer to a planted one
_TRIES = 200


@dataclass(frozen=True)
class Patches:
    """Patches of an agent's map, by the cells at their middles.

    Attributes:
        cars: (N, 2) row and column of each vehicle on the map, in cells of the finest map.
        empty: (M, 2) row and column of places without a vehicle.
        ny: rows of the finest map.
        radius: half the edge of a patch, in cells of the finest map.
    """

    cars: Int64
    empty: Int64
    ny: int
    radius: int

    @staticmethod
    def of(centres_m: Float64, grid: BevGrid, generator: np.random.Generator) -> Patches:
        """Find patches.

        Args:
            centres_m: (N, 2) x and y of all vehicles in the agent's frame.
            grid: of the agent's map.
            generator: chooses the empty places.
        """
        radius = round(RADIUS_M / grid.cell_m)
        angle, distance_m = generator.uniform(-np.pi, np.pi, _TRIES), generator.uniform(_NEAR_M, _FAR_M, _TRIES)
        places_m, chosen = np.stack([distance_m * np.cos(angle), distance_m * np.sin(angle)], axis=1), list[Float64]()
        for place_m in places_m:
            taken = np.concatenate([centres_m, np.array(chosen).reshape(-1, 2)])
            if len(chosen) < _PLANTED and (np.hypot(*(taken - place_m).T) > _CLEAR_M).all():
                chosen.append(place_m)
        cells = [_cells(points, grid) for points in (centres_m, np.array(chosen).reshape(-1, 2))]
        cars, empty = (part[_inside(part, radius, grid)] for part in cells)
        return Patches(cars, empty, grid.ny, radius)

    def square(self, middle: Int64, ny: int) -> tuple[Any, ...]:
        """Return the index of the patch around a cell of the finest map, on maps (..., ny, nx) of any scale."""
        step = -(-self.ny // ny)
        radius = max(self.radius // step, 1)
        row, column = (int(cell) // step for cell in middle)
        return ..., slice(max(row - radius, 0), row + radius + 1), slice(max(column - radius, 0), column + radius + 1)


def _cells(points_m: Float64, grid: BevGrid) -> Int64:
    """Return row and column (N, 2) of points x, y."""
    columns, rows = ((points_m[:, axis] - grid.range_m[axis]) // grid.cell_m for axis in (0, 1))
    return np.stack([rows, columns], axis=1).astype(np.int64)


def _inside(cells: Int64, radius: int, grid: BevGrid) -> BoolMask:
    """Return which patches lie wholly on the map, with room for the coarsest scale."""
    margin = 2 * radius
    inside = (cells >= margin) & (cells < np.array([grid.ny, grid.nx]) - margin)
    return np.asarray(inside.all(axis=1), dtype=np.bool_)
