"""Sizes of maps along one edge: which numbers of cells pass through strided and enlarging layers without a remainder."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from heal.config import ConfigError

# The largest multiple that is looked for. Strides that need more halve a map eight times.
_MOST_CELLS = 256


def output_cells(cells: int, strides: Sequence[int], upsample_strides: Sequence[float]) -> int | None:
    """Compute the cells along an edge of the map that residual stages and `Upsample` make.

    Args:
        cells: along an edge of the input.
        strides: of the stages in a row.
        upsample_strides: as of `heal.layers.residual.Upsample`; if empty, the last stage's map is the output.

    Returns:
        The number of cells; None if the enlarged maps of the stages differ in size, so that they cannot be joined.
    """
    sizes = []
    for stride in strides:
        cells = -(-cells // stride)
        sizes.append(cells)
    if not upsample_strides:
        return cells
    enlarged = {_resized(size, stride) for size, stride in zip(sizes, upsample_strides, strict=False)}
    if len(enlarged) > 1:
        return None
    joined = enlarged.pop()
    return _resized(joined, upsample_strides[-1]) if len(upsample_strides) > len(sizes) else joined


def require_fitting(axis: str, cells: int, cell_m: float, fits: Callable[[int], bool]) -> None:
    """Raise ConfigError if a range does not fit its network; the message names lengths that fit.

    Args:
        axis: name of the axis.
        cells: number of cells along the axis.
        cell_m: edge of a cell in metres.
        fits: whether a number of cells passes through the network without a remainder.
    """
    if fits(cells):
        return
    multiple = next((m for m in range(1, _MOST_CELLS + 1) if all(fits(m * k) for k in range(1, 5))), None)
    found = f"range_m in {axis} is {cells * cell_m:g} m, {cells} cells"
    if multiple is None:
        raise ConfigError(f"{found}, but the strides and upsample_strides of the network fit no number of cells; change them")
    below = cells // multiple * multiple
    lengths = " or ".join(f"{near * cell_m:g}" for near in (below, below + multiple) if near)
    raise ConfigError(f"{found}; choose a multiple of {multiple} cells ({multiple * cell_m:g} m), such as {lengths}")


def _resized(cells: int, stride: float) -> int:
    """Return the cells of a map that a factor enlarges, or shrinks if it is below 1."""
    return cells * int(stride) if stride >= 1 else cells // round(1 / stride)
