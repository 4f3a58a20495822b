"""Draws one tick in bird's-eye view (BEV): point clouds by agent, links, boxes, and vehicles that are hidden from the ego."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from heal.se3 import transform_points
from heal.tools.pictures.cameras import draw_strip, strip_inches
from heal.tools.pictures.colors import (
    BACKGROUND,
    HIDDEN,
    LINES,
    TEXT,
    TROUBLE,
    TRUTH,
    agent_colors,
    score_color,
)
from heal.tools.pictures.margin import margin_inches, write_margin
from heal.tools.pictures.marks import draw_arrow, draw_ground, figure_image, footprints, write_label
from heal.tools.pictures.panel import PANEL_INCHES, draw_panel, least_inches
from heal.tools.pictures.picture import BevPicture, format_bytes
from heal.types import Float64, UInt8

BEV_INCHES = 10.0


def render(pictures: Sequence[BevPicture], width_px: int = 1600, margin: str = "") -> UInt8:
    """Draw pictures side by side with the panel of the last one on the right; return the RGB image (H, W, 3).

    Below them stand the images of the last picture's cameras. The text `margin`, of a few lines, stands in a strip below.
    """
    from matplotlib.figure import Figure

    bev_inches = BEV_INCHES if pictures[0].aspect > 0.75 else 1.4 * BEV_INCHES
    height = max(bev_inches * pictures[0].aspect, least_inches(pictures[-1]))
    width = len(pictures) * bev_inches + PANEL_INCHES
    below, cameras = margin_inches(width, margin), pictures[-1].cameras
    total = height + strip_inches(width, cameras) + below
    figure = Figure(figsize=(width, total), dpi=width_px / width, facecolor=BACKGROUND)
    bottom, part = 1 - height / total, height / total
    for i, picture in enumerate(pictures):
        axes = figure.add_axes((i * bev_inches / width, bottom, bev_inches / width, part))
        draw_bev(axes, picture, round(bev_inches * figure.dpi))
        axes.text(0.02, 0.975, picture.caption, transform=axes.transAxes, color=TEXT, fontsize=17, weight="bold", va="top")
        axes.axvline(picture.range_m[3], color=LINES, linewidth=2)
    panel = figure.add_axes((1 - PANEL_INCHES / width, bottom, PANEL_INCHES / width, part))
    draw_panel(panel, pictures[-1], height)
    draw_strip(figure, cameras, below)
    write_margin(figure, margin)
    return figure_image(figure)


def draw_bev(axes: Any, picture: BevPicture, width_px: int) -> None:
    """Draw points, links, boxes and agents on matplotlib axes that are `width_px` wide."""
    draw_ground(axes, _clouds(picture), picture.range_m, width_px)
    _draw_links(axes, picture)
    _draw_truth(axes, picture)
    _draw_detections(axes, picture)
    _draw_agents(axes, picture)


def _clouds(picture: BevPicture) -> list[tuple[str, Float64]]:
    """Return the colour of each agent, and its points (N, 3) in the ego's frame."""
    agents = zip(agent_colors(len(picture.agents)), picture.agents, strict=True)
    return [(color, transform_points(agent.ego_SE3_agent, agent.points[:, :3].astype(np.float64))) for color, agent in agents]


def _draw_links(axes: Any, picture: BevPicture) -> None:
    """Draw a line from the ego to each agent: solid with the size of a used message, else dashed with the status."""
    for color, agent in zip(agent_colors(len(picture.agents)), picture.agents, strict=True):
        if agent.message.own:
            continue
        used = agent.message.status == "used"
        x, y = agent.ego_SE3_agent[:2, 3]
        style: Any = "-" if used else (0, (3, 3))
        axes.plot([0, x], [0, y], color=color if used else TROUBLE, linewidth=1.6, linestyle=style, alpha=0.75, zorder=3)
        label = format_bytes(agent.message.size_bytes) if used else agent.message.status
        write_label(axes, 0.55 * x, 0.55 * y, label, TEXT if used else TROUBLE, 10)


def _draw_truth(axes: Any, picture: BevPicture) -> None:
    """Draw labelled vehicles, with a ring around each that is hidden from the ego; the ring is dashed if it was not found."""
    from matplotlib.patches import Circle

    outlines = _outlines(picture.ground_truth.corners)
    for outline, found, hidden in zip(outlines, picture.found, picture.hidden, strict=True):
        axes.plot(*outline.T, color=TRUTH, linewidth=1.3, alpha=0.95, zorder=4)
        if hidden:
            centre = outline[:4].mean(axis=0)
            radius_m = 0.5 * float(np.linalg.norm(outline[0] - outline[2])) + 1.2
            style: Any = "-" if found else (0, (2, 2))
            axes.add_patch(Circle(centre, radius_m, color=HIDDEN, alpha=0.16 if found else 0.05, linewidth=0, zorder=3.5))
            axes.add_patch(Circle(centre, radius_m, fill=False, color=HIDDEN, linewidth=2.0, linestyle=style, zorder=6))


def _draw_detections(axes: Any, picture: BevPicture) -> None:
    """Draw detections with a line to the front edge; the box with the highest score lies on top.

    A box of another class than the first has the first letter of its class's name beside it.
    """
    drawn = picture.detections.select(torch.from_numpy(picture.drawn))
    boxes = zip(_outlines(drawn.corners), drawn.scores.tolist(), drawn.classes.tolist(), strict=True)
    for outline, score, number in reversed(list(boxes)):
        color = score_color(score)
        front, centre = outline[:2].mean(axis=0), outline[:4].mean(axis=0)
        axes.plot(*outline.T, color=color, linewidth=2.0, solid_joinstyle="round", zorder=5)
        axes.plot(*np.stack([(front + centre) / 2, front]).T, color=color, linewidth=2.0, zorder=5)
        if number:
            axes.annotate(picture.class_names[number][0], centre, (6, 6), textcoords="offset points", color=color, fontsize=9)


def _draw_agents(axes: Any, picture: BevPicture) -> None:
    """Draw an arrow along the heading of each agent, and its name."""
    for color, agent in zip(agent_colors(len(picture.agents)), picture.agents, strict=True):
        x, y = agent.ego_SE3_agent[:2, 3]
        size_m = (picture.range_m[3] - picture.range_m[0]) / 60
        draw_arrow(axes, agent.ego_SE3_agent, size_m, color)
        name = f"{agent.agent_id} (ego)" if agent.message.own else agent.agent_id
        write_label(axes, *_label_position(picture, (x, y), 2.0 * size_m, len(name)), name, color, 11, weight="bold")


def _label_position(picture: BevPicture, position: tuple[float, float], distance_m: float, letters: int) -> tuple[float, float]:
    """Choose where to write an agent's name: above, below, left or right of it, wherever the nearest box is farthest away.

    Args:
        picture: boxes and range.
        position: x, y of the agent in metres in the ego's frame.
        distance_m: distance between the agent and the text.
        letters: length of the text.

    Returns:
        x, y of the text's centre, in metres, inside the range.
    """
    x_max, y_max = picture.range_m[3:5]
    boxes = torch.cat([picture.ground_truth.corners, picture.detections.corners])[:, :4, :2].mean(dim=1).double().numpy()
    sideways = 0.7 + 0.16 * letters
    offsets = np.array([[0, 1], [0, -1], [sideways, 0], [-sideways, 0]]) * distance_m
    inner = np.array([x_max - 0.16 * letters * distance_m, y_max - distance_m])
    choices = np.clip(np.array(position) + offsets, -inner, inner)
    room = [np.linalg.norm(boxes - centre, axis=1).min(initial=1e9) for centre in choices]
    best_x, best_y = choices[int(np.argmax(np.minimum(room, 1.5 * distance_m)))]
    return float(best_x), float(best_y)


def _outlines(corners: torch.Tensor) -> Float64:
    """Return closed footprints (N, 5, 2), front edge first, of boxes with corners (N, 8, 3)."""
    return footprints(corners.double().numpy())
