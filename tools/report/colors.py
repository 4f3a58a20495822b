"""Colours of a report by name, each for a light and a dark page; the charts and the style sheet share them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from heal.tools.pictures.colors import AGENT_COLORS, color_number


@dataclass(frozen=True)
class Color:
    """A colour as "#rrggbb" on a light page and on a dark page; no two names share a light value."""

    light: str
    dark: str


LIGHT_AGENT_COLORS = ("#2f6fde", "#b8670f", "#7a52cc", "#0f8a6a", "#c4503f", "#5b6b80")
COLORS: Mapping[str, Color] = {
    "page": Color("#f6f8fa", "#0d1117"),
    "panel": Color("#ffffff", "#151b23"),
    "edge": Color("#d8dee4", "#30363d"),
    "ink": Color("#1f2328", "#e6edf3"),
    "faint": Color("#59636e", "#8b949e"),
    "accent": Color("#0969da", "#6cb6ff"),
    "green": Color("#1a7f37", "#3fb950"),
    "orange": Color("#bf7500", "#ff9f43"),
    "red": Color("#cf222e", "#ff6b60"),
    "pink": Color("#bf3989", "#ff7edb"),
    "gray": Color("#818b98", "#6e7681"),
    **{f"agent{i}": Color(light, dark) for i, (light, dark) in enumerate(zip(LIGHT_AGENT_COLORS, AGENT_COLORS, strict=True))},
}


def agent_color(position: int) -> str:
    """Return the colour's name for the agent at a position (0: the first ego); the pictures give the agent the same colour."""
    return f"agent{color_number(position)}"
