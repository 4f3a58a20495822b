"""The range of a command line: an alliance opened on it, or an error that names the nearest range that fits the networks."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from heal.alliance import Alliance, load_alliance, read_base_card
from heal.base_model import BaseConfig
from heal.errors import UserError
from heal.grid import Range

# Cells to look at on each side of what was asked for; strides that need more halve a map eight times.
_MOST_CELLS = 256


def open_on_range(path: Path, range_m: Range | None) -> Alliance:
    """Open an alliance on another range than the trained one, or on that with None; arguments as in `load_alliance`.

    Raises:
        AllianceError: as in `load_alliance`.
        UserError: the range does not fit the networks; the message names the nearest one that does.
    """
    if range_m is None:
        return load_alliance(path)
    settings = read_base_card(path).config
    try:
        replace(settings, grid=replace(settings.grid, range_m=range_m))
    except UserError as error:
        near = nearest_range(settings, range_m)
        raise UserError(
            f"--range-m: {error}; the nearest range that fits is --range-m {' '.join(f'{one:g}' for one in near)}"
        ) from error
    return load_alliance(path, range_m)


def nearest_range(settings: BaseConfig, range_m: Range) -> Range:
    """Return the range nearest to `range_m` that a base can run on; an edge that is no number becomes the trained one.

    A range that is off centre becomes the one that contains it, or nearly does.
    """
    trained = settings.grid.range_m
    x_m, y_m = (_nearest_half(settings, axis, (range_m[axis], range_m[axis + 3])) for axis in (0, 1))
    heights = (range_m[2], range_m[5])
    z_min, z_max = heights if all(map(math.isfinite, heights)) and heights[0] < heights[1] else (trained[2], trained[5])
    return (-x_m, -y_m, z_min, x_m, y_m, z_max)


def _nearest_half(settings: BaseConfig, axis: int, edges: tuple[float, float]) -> float:
    """Return half of the length along x (axis 0) or y (1) that fits and is nearest to the farther one of two edges, in metres."""
    trained, cell_m = settings.grid.range_m, settings.grid.cell_m
    if not all(map(math.isfinite, edges)):
        return trained[axis + 3]
    wanted = max(map(abs, edges))
    for cells in _nearest_cells(2 * wanted / cell_m):
        half = round(cells * cell_m / 2, 6)
        x_m, y_m = (half, trained[4]) if axis == 0 else (trained[3], half)
        try:
            replace(settings, grid=replace(settings.grid, range_m=(-x_m, -y_m, trained[2], x_m, y_m, trained[5])))
        except UserError:
            continue
        return half
    return trained[axis + 3]


def _nearest_cells(wanted: float) -> list[int]:
    """Return numbers of cells from 1 on, the nearest to `wanted` first."""
    middle = round(wanted)
    return sorted(range(max(1, middle - _MOST_CELLS), middle + _MOST_CELLS), key=lambda cells: abs(cells - wanted))
