"""The bird's-eye-view grid that all agents of an alliance share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from heal.errors import UserError

Range: TypeAlias = tuple[float, float, float, float, float, float]

MAX_CELLS = 1 << 20
"""The most cells of a grid: more than 800 m x 800 m in cells of 0.8 m. The limit bounds the memory that a few bytes can claim."""

BLOCK_CELLS = 4
"""Cells along the edge of a block, the unit in which agents tell what their sensors cover: with cells of 0.8 m, less than a car."""


def block_shape(ny: int, nx: int) -> tuple[int, int]:
    """Return the number of rows and columns of blocks of a map with `ny` rows and `nx` columns; the last ones may be incomplete."""
    return -(-ny // BLOCK_CELLS), -(-nx // BLOCK_CELLS)


@dataclass(frozen=True)
class BevGrid:
    """A metric range cut into square cells. Maps on it are (C, ny, nx): rows follow +y, columns follow +x.

    Attributes:
        range_m: x_min, y_min, z_min, x_max, y_max, z_max in the agent's own frame; centred on it in x and y.
        cell_m: edge of a cell in metres.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    range_m: Range
    cell_m: float

    def __post_init__(self) -> None:
        """Raise ValueError for a range that is empty, off centre, too large, or not a whole number of cells."""
        x_min, y_min, z_min, x_max, y_max, z_max = self.range_m
        if not (x_min < x_max and y_min < y_max and z_min < z_max and self.cell_m > 0 and all(map(math.isfinite, self.range_m))):
            raise UserError(f"range_m must be x_min, y_min, z_min, x_max, y_max, z_max, all finite, got {self.range_m}")
        if x_min != -x_max or y_min != -y_max:
            raise UserError(f"range_m must be centred on the agent in x and y (warping relies on it), got {self.range_m}")
        if not (x_max - x_min) / self.cell_m * ((y_max - y_min) / self.cell_m) < MAX_CELLS + 0.5:
            raise UserError(
                f"range_m and cell_m: expected at most {MAX_CELLS} cells, got {self.range_m} in cells of {self.cell_m} m"
            )
        for name, length in (("x", x_max - x_min), ("y", y_max - y_min)):
            cells = length / self.cell_m
            if abs(cells - round(cells)) > 1e-4:
                raise UserError(
                    f"range_m in {name} is {length} m, which is {cells:.3f} cells of {self.cell_m} m; choose a whole number"
                )

    @property
    def nx(self) -> int:
        """Number of columns of a map."""
        return round((self.range_m[3] - self.range_m[0]) / self.cell_m)

    @property
    def ny(self) -> int:
        """Number of rows of a map."""
        return round((self.range_m[4] - self.range_m[1]) / self.cell_m)

    @property
    def centres_m(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The middles of the cells, metres: x (nx,) of the columns and y (ny,) of the rows."""
        x_min, y_min = self.range_m[:2]
        x = x_min + (np.arange(self.nx, dtype=np.float64) + 0.5) * self.cell_m
        y = y_min + (np.arange(self.ny, dtype=np.float64) + 0.5) * self.cell_m
        return x, y

    @property
    def length_x_m(self) -> float:
        """Extent in x, metres."""
        return self.range_m[3] - self.range_m[0]

    @property
    def length_y_m(self) -> float:
        """Extent in y, metres."""
        return self.range_m[4] - self.range_m[1]
