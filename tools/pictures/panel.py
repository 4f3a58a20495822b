"""The panel beside a picture: title, agents with their messages, numbers of boxes, computing times."""

from __future__ import annotations

from typing import Any

import numpy as np

from heal.tools.pictures.colors import FAINT_TEXT, HIDDEN, LINES, PANEL, SCORE_COLORS, TEXT, TROUBLE, TRUTH, agent_colors
from heal.tools.pictures.picture import FOUND_IOU, BevPicture, format_bytes

PANEL_INCHES = 4.3
# Distances between the lines of the panel, in inches of a panel that is as high as its lines need.
TOP, AGENT_ROW, BOX_ROW, TIME_ROW, SECTION = 1.55, 0.4, 0.4, 0.36, 0.55
BOX_ROWS, TIME_ROWS = 4, 6  # and a row of boxes for each class where there are several
# In a low panel the lines move together, to this share of their distances at most.
CLOSEST = 0.7


def wanted_inches(picture: BevPicture) -> float:
    """Return the height in inches at which the lines of the panel have their distances."""
    box_rows = BOX_ROWS + len(_class_rows(picture))
    return TOP + len(picture.agents) * AGENT_ROW + box_rows * BOX_ROW + TIME_ROWS * TIME_ROW + 2.5 * SECTION


def least_inches(picture: BevPicture) -> float:
    """Return the least height in inches of a panel whose lines do not touch."""
    return CLOSEST * wanted_inches(picture)


def draw_panel(axes: Any, picture: BevPicture, height_inches: float) -> None:
    """Draw the panel beside the scene: title, agents with their messages, numbers of boxes, computing times.

    Args:
        axes: matplotlib axes of the panel.
        picture: what to draw.
        height_inches: height of the axes, at least `least_inches`; below `wanted_inches` the lines move together.
    """
    axes.set(xlim=(0, PANEL_INCHES), ylim=(max(height_inches, wanted_inches(picture)), 0), facecolor=PANEL)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(LINES)
    axes.text(0.35, 0.55, picture.title, color=TEXT, fontsize=15, weight="bold", va="center")
    axes.text(0.35, 0.9, picture.subtitle, color=FAINT_TEXT, fontsize=11, va="center")
    y = _panel_agents(axes, picture, TOP)
    y = _panel_boxes(axes, picture, y + SECTION)
    _panel_times(axes, picture, y + SECTION)


def _panel_agents(axes: Any, picture: BevPicture, y: float) -> float:
    """Write one row for each agent from `y` inches on; return the y of the last row."""
    _panel_heading(axes, y, "AGENTS AND THEIR MESSAGES")
    for color, agent in zip(agent_colors(len(picture.agents)), picture.agents, strict=True):
        y += AGENT_ROW
        message = agent.message
        state = "on board" if message.own else format_bytes(message.size_bytes)
        if message.status != "used":
            state = f"{state}, {message.status}"
        axes.plot([0.47], [y], marker="o", markersize=10, color=color)
        tint = FAINT_TEXT if message.status == "used" else TROUBLE
        _panel_row(axes, y, f"{agent.agent_id}   {message.agent_type}", state, tint)
    return y


def _panel_boxes(axes: Any, picture: BevPicture, y: float) -> float:
    """Write the numbers of boxes from `y` inches on; return the y of the last row."""
    hidden_found = int((picture.hidden & picture.found).sum())
    several = len(picture.class_names) > 1
    rows: tuple[tuple[str | None, float, str, str], ...] = (
        (TRUTH, 1.6, "labelled objects" if several else "labelled vehicles", str(len(picture.ground_truth))),
        (SCORE_COLORS[1], 2.4, *_drawn_detections(picture)),
        (None, 0, f"labelled and found, IoU {FOUND_IOU:g}", f"{int(picture.found.sum())} of {len(picture.found)}"),
        (HIDDEN, 2.4, "hidden from the ego, found", f"{hidden_found} of {int(picture.hidden.sum())}"),
        *_class_rows(picture),
    )
    _panel_heading(axes, y, "BOXES")
    for color, width, name, number in rows:
        y += BOX_ROW
        if color is not None:
            square = np.array([[0.34, -0.1], [0.6, -0.1], [0.6, 0.1], [0.34, 0.1], [0.34, -0.1]])
            ring = np.array([[0.47 + 0.13 * np.cos(a), 0.13 * np.sin(a)] for a in np.linspace(0, 2 * np.pi, 30)])
            axes.plot(*((ring if color == HIDDEN else square) + np.array([0, y])).T, color=color, linewidth=width)
        _panel_row(axes, y, name, number, TEXT)
    return y


def _class_rows(picture: BevPicture) -> list[tuple[None, float, str, str]]:
    """Return a row for each class: how many of its labelled objects were found; none where there is one class."""
    if len(picture.class_names) == 1:
        return []
    classes = picture.ground_truth.classes.numpy()
    rows: list[tuple[None, float, str, str]] = []
    for number, name in enumerate(picture.class_names):
        found = picture.found[classes == number]
        sign = f" ({name[0]})" if number else ""
        rows.append((None, 0.0, f"found, {name}{sign}", f"{int(found.sum())} of {len(found)}"))
    return rows


def _drawn_detections(picture: BevPicture) -> tuple[str, str]:
    """Return the name and the number of the detections; if not all of them are drawn, with the least score of those that are."""
    drawn, total = int(picture.drawn.sum()), len(picture.detections)
    if drawn == total:
        return "detections, brighter with score", str(total)
    return f"detections, score ≥ {picture.drawn_from:g}", f"{drawn} of {total}"


def _panel_times(axes: Any, picture: BevPicture, y: float) -> None:
    """Write the time of every stage from `y` inches on; of the agents, which run in parallel, the slowest one counts."""
    agents = [agent.message.latency for agent in picture.agents if agent.message.latency is not None]
    node = picture.node
    rows = [] if node is None else [("unpack", node.unpack_ms), ("fuse", node.fuse_ms), ("decode", node.decode_ms)]
    if agents:
        rows = [(name, max(getattr(times, f"{name}_ms") for times in agents)) for name in ("sense", "encode", "pack")] + rows
    _panel_heading(axes, y, "COMPUTING TIME, SLOWEST AGENT")
    for name, milliseconds in rows:
        y += TIME_ROW
        _panel_row(axes, y, name, f"{milliseconds:.1f} ms", FAINT_TEXT)


def _panel_heading(axes: Any, y: float, text: str) -> None:
    axes.text(0.35, y, text, color=FAINT_TEXT, fontsize=10, weight="bold", va="center")


def _panel_row(axes: Any, y: float, name: str, value: str, tint: str) -> None:
    axes.text(0.72, y, name, color=TEXT, fontsize=12, va="center")
    axes.text(PANEL_INCHES - 0.35, y, value, color=tint, fontsize=12, va="center", ha="right")
