"""Colours of pictures and of the live view: background, text, boxes, and one colour for each agent."""

from __future__ import annotations

import numpy as np

from heal.types import UInt8

BACKGROUND, PANEL, LINES = "#0d1117", "#151b23", "#30363d"
TEXT, FAINT_TEXT = "#e6edf3", "#8b949e"
TRUTH, HIDDEN, TROUBLE = "#3fb950", "#ff7edb", "#ff6b60"
SCORE_COLORS = ("#7d5a16", "#ffd84d")
# The first colour is the ego's. All are dull, so that boxes stand out.
AGENT_COLORS = ("#6cb6ff", "#d9a066", "#b79af2", "#6fc3a4", "#e08d80", "#93a4b8")


def agent_color(position: int) -> str:
    """Return the colour, "#rrggbb", of the agent at a position; position 0 is the ego."""
    return AGENT_COLORS[color_number(position)]


def color_number(position: int) -> int:
    """Return the index into `AGENT_COLORS` for the agent at a position; only the ego, position 0, has colour 0."""
    return 1 + (position - 1) % (len(AGENT_COLORS) - 1) if position else 0


def agent_colors(count: int) -> list[str]:
    """Return the colours of the first `count` agents, the ego first."""
    return [agent_color(position) for position in range(count)]


def score_color(score: float) -> tuple[float, float, float]:
    """Return the colour of a score as red, green and blue in [0, 1]: dark up to 0.2, bright from 0.7 on."""
    dim, bright = np.array(rgb_floats(SCORE_COLORS[0])), np.array(rgb_floats(SCORE_COLORS[1]))
    r, g, b = (dim + (bright - dim) * np.clip((score - 0.2) / 0.5, 0, 1)).tolist()
    return r, g, b


def palette(steps: int = 16) -> UInt8:
    """Return the 256 RGB colours (256, 3) for GIF images: every colour of a picture in `steps` shades down to the background."""
    accents = (*AGENT_COLORS, *SCORE_COLORS, TEXT, FAINT_TEXT, TRUTH, HIDDEN, TROUBLE, "#ffffff")
    background, shares = np.array(rgb_floats(BACKGROUND)), np.arange(1, steps + 1)[:, None] / steps
    shades = [row for color in accents for row in background * (1 - shares) + np.array(rgb_floats(color)) * shares]
    rows = np.array([rgb_floats(BACKGROUND), rgb_floats(PANEL), rgb_floats(LINES), *shades])
    colors: UInt8 = (255 * np.pad(rows, ((0, 256 - len(rows)), (0, 0)), mode="edge")).round().astype(np.uint8)
    return colors


def rgb_bytes(color: str) -> tuple[int, int, int]:
    """Return red, green and blue, 0 to 255, of a colour such as "#30363d"."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue


def rgb_floats(color: str) -> tuple[float, float, float]:
    """Return red, green and blue, 0 to 1, of a colour such as "#30363d"."""
    red, green, blue = rgb_bytes(color)
    return red / 255, green / 255, blue / 255
