"""The margin below a picture: what made it, in small letters, and the height that this takes."""

from __future__ import annotations

from typing import Any

from heal.tools.pictures.colors import FAINT_TEXT

# A line of this many letters fills the width of a picture, unless the letters would be too large.
_LETTERS, _LARGEST_PT = 144, 11.0
_LETTER_WIDTH, _LINE_HEIGHT, _PAD_INCHES = 0.5, 1.35, 0.08


def margin_inches(width_inches: float, text: str) -> float:
    """Return the height in inches of the margin below a picture; 0 without a text."""
    lines = text.count("\n") + 1
    return 2 * _PAD_INCHES + lines * _LINE_HEIGHT * _size_pt(width_inches) / 72 if text else 0.0


def write_margin(figure: Any, text: str) -> None:
    """Write a text at the lower edge of a matplotlib figure; a figure with a layout keeps its axes above the text."""
    if not text:
        return
    width, height = figure.get_size_inches()
    # A command line may hold dollar signs, which would begin a formula.
    options = {"color": FAINT_TEXT, "fontsize": _size_pt(width), "linespacing": 1.2, "parse_math": False}
    figure.text(_PAD_INCHES / width, _PAD_INCHES / height, text, ha="left", va="bottom", **options)
    if figure.get_layout_engine() is not None:
        bottom = margin_inches(width, text) / height
        figure.get_layout_engine().set(rect=(0, bottom, 1, 1 - bottom))


def _size_pt(width_inches: float) -> float:
    """Return the size of the letters in points."""
    return min(_LARGEST_PT, 72 * width_inches / (_LETTERS * _LETTER_WIDTH))
