"""The parts of a picture, and where those of one width stand: in rows from left to right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

GAP_INCHES, TITLE_INCHES = 0.08, 0.28


@dataclass(frozen=True)
class Tile:
    """A part of a picture.

    Attributes:
        title: text above it.
        color: of the title, "#rrggbb".
        aspect: height divided by width.
        draw: draws the part on matplotlib axes, whose width in pixels is given.
    """

    title: str
    color: str
    aspect: float
    draw: Callable[[Any, int], None]


def place_tiles(aspects: Sequence[float], columns: int, width_inches: float) -> tuple[float, list[tuple[float, float, float]]]:
    """Place tiles in rows; a row is as high as its highest tile and its title.

    Args:
        aspects: height divided by width of every tile.
        columns: number of tiles in a row.
        width_inches: of a row.

    Returns:
        The height in inches of all rows, and the left edge, the upper edge and the width in inches of every tile.
    """
    width = (width_inches - GAP_INCHES) / columns - GAP_INCHES
    places: list[tuple[float, float, float]] = []
    top = 0.0
    for first in range(0, len(aspects), columns):
        row = aspects[first : first + columns]
        places += [(GAP_INCHES + column * (width + GAP_INCHES), top, width) for column in range(len(row))]
        top += TITLE_INCHES + width * max(row) + GAP_INCHES
    return top, places
