"""Draws one tick in bird's-eye view (BEV): point clouds by agent, links, boxes, and vehicles that are hidden from the ego."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np
import torch

from heal.agents.records import MessageRecord, NodeLatency, TickResult
from heal.datasets.visibility import HIDDEN_BELOW, SEEN_ABOVE
from heal.detection.boxes import corners_to_boxes
from heal.detection.detections import Detections, GroundTruth
from heal.detection.metrics import IOU_THRESHOLDS
from heal.detection.points import points_in_boxes
from heal.se3 import inverse_SE3, relative_SE3, transform_points
from heal.tools.pictures.colors import (
    BACKGROUND,
    FAINT_TEXT,
    HIDDEN,
    LINES,
    PANEL,
    SCORE_COLORS,
    TEXT,
    TROUBLE,
    TRUTH,
    agent_colors,
    rgb_floats,
    score_color,
)
from heal.tools.pictures.margin import margin_inches, write_margin
from heal.types import BoolMask, Float32, Float64, UInt8

FOUND_IOU = 0.5
# Timestamps from here on are seconds since the Unix epoch; smaller ones are seconds since the start of the run.
EPOCH_TIMES_FROM_S = 1e8

BEV_INCHES, PANEL_INCHES = 10.0, 4.3


@dataclass(frozen=True)
class BevAgent:
    """An agent in a picture.

    Attributes:
        agent_id: name of the agent.
        ego_SE3_agent: (4, 4) pose in the ego's frame.
        points: (N, 4) LiDAR points in the agent's frame: x, y, z in metres, intensity.
        message: the agent's message of the tick and its status.
    """

    agent_id: str
    ego_SE3_agent: Float64
    points: Float32
    message: MessageRecord


@dataclass(frozen=True)
class BevPicture:
    """What a picture shows.

    Attributes:
        title: heading of the panel, such as the scene's name.
        subtitle: line below the title.
        range_m: x_min, y_min, z_min, x_max, y_max, z_max in the ego's frame.
        agents: the agents whose pose is known, ego first.
        detections: boxes of the fusion node, in the ego's frame.
        ground_truth: G labelled vehicles, in the ego's frame.
        found: (G,) whether a detection matches the vehicle at IoU 0.5.
        hidden: (G,) whether the ego has fewer than 5 points on the vehicle and another agent more than 20.
        node: time of the fusion node's stages; None if the node did not answer.
        caption: text in the corner of the scene, for pictures side by side.
    """

    title: str
    subtitle: str
    range_m: Sequence[float]
    agents: tuple[BevAgent, ...]
    detections: Detections
    ground_truth: GroundTruth
    found: BoolMask
    hidden: BoolMask
    node: NodeLatency | None
    caption: str = ""

    @property
    def aspect(self) -> float:
        """Height of the range divided by its width."""
        return float((self.range_m[4] - self.range_m[1]) / (self.range_m[3] - self.range_m[0]))


def picture_of(result: TickResult, range_m: Sequence[float]) -> BevPicture:
    """Return the picture of a tick.

    Args:
        result: a tick that was run with `RunOptions.keep_views`; without views there are boxes only.
        range_m: x_min, y_min, z_min, x_max, y_max, z_max in the ego's frame.
    """
    messages = {record.agent_id: record for record in result.messages}
    agents = tuple(
        BevAgent(view.agent_id, relative_SE3(result.world_SE3_ego, view.world_SE3_agent), view.points, messages[view.agent_id])
        for view in result.views
    )
    found = result.match.found[IOU_THRESHOLDS.index(FOUND_IOU)]
    subtitle = f"tick {result.tick}, {_clock(result.timestamp_ns)}, ego: {result.ego_id}"
    hidden = hidden_from_ego(result.ground_truth, agents)
    return BevPicture(
        title=result.scene_id,
        subtitle=subtitle,
        range_m=range_m,
        agents=agents,
        detections=result.detections,
        ground_truth=result.ground_truth,
        found=found,
        hidden=hidden,
        node=result.latency,
    )


def hidden_from_ego(truth: GroundTruth, agents: Sequence[BevAgent]) -> BoolMask:
    """Return (G,) whether each vehicle is hidden from the ego but visible to another agent; False for the ego's own vehicle.

    A vehicle is hidden if the ego has fewer than `HIDDEN_BELOW` points on it, and visible if an agent has more than `SEEN_ABOVE`.
    """
    own, others = np.zeros(len(truth), np.int64), np.zeros(len(truth), np.int64)
    corners = truth.corners.numpy().astype(np.float64)
    for agent in agents:
        local = transform_points(inverse_SE3(agent.ego_SE3_agent), corners)
        counts = points_in_boxes(agent.points[:, :3].astype(np.float64), local)
        if agent.message.own:
            own = counts
        else:
            others = np.maximum(others, counts)
    boxes = corners_to_boxes(truth.corners)
    ego_itself = (boxes[:, :2].norm(dim=1) < boxes[:, 4] / 2 + 0.5).numpy()
    hidden: BoolMask = (own < HIDDEN_BELOW) & (others > SEEN_ABOVE) & ~ego_itself
    return hidden


def render(pictures: Sequence[BevPicture], width_px: int = 1600, margin: str = "") -> UInt8:
    """Draw pictures side by side with the panel of the last one on the right; return the RGB image (H, W, 3).

    The text `margin`, of a few lines, stands in a strip below.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    bev_inches = BEV_INCHES if pictures[0].aspect > 0.75 else 1.4 * BEV_INCHES
    height = bev_inches * pictures[0].aspect
    width = len(pictures) * bev_inches + PANEL_INCHES
    strip = margin_inches(width, margin)
    figure = Figure(figsize=(width, height + strip), dpi=width_px / width, facecolor=BACKGROUND)
    bottom, part = strip / (height + strip), height / (height + strip)
    canvas = FigureCanvasAgg(figure)
    for i, picture in enumerate(pictures):
        axes = figure.add_axes((i * bev_inches / width, bottom, bev_inches / width, part))
        draw_bev(axes, picture, round(bev_inches * figure.dpi))
        axes.text(0.02, 0.975, picture.caption, transform=axes.transAxes, color=TEXT, fontsize=17, weight="bold", va="top")
        axes.axvline(picture.range_m[3], color=LINES, linewidth=2)
    panel = figure.add_axes((1 - PANEL_INCHES / width, bottom, PANEL_INCHES / width, part))
    draw_panel(panel, pictures[-1], height)
    write_margin(figure, margin)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def draw_bev(axes: Any, picture: BevPicture, width_px: int) -> None:
    """Draw points, links, boxes and agents on matplotlib axes that are `width_px` wide."""
    x_min, y_min, _, x_max, y_max, _ = picture.range_m
    axes.set(xlim=(x_min, x_max), ylim=(y_min, y_max), aspect="equal")
    axes.axis("off")
    image = rasterize(picture, round(0.75 * width_px))
    axes.imshow(image, extent=(x_min, x_max, y_min, y_max), origin="lower", interpolation="bilinear", zorder=0)
    _draw_rings(axes, picture)
    _draw_links(axes, picture)
    _draw_truth(axes, picture)
    _draw_detections(axes, picture)
    _draw_agents(axes, picture)


def rasterize(picture: BevPicture, width_px: int) -> UInt8:
    """Return an RGB image (H, W, 3) of all points, first row at y_min; a pixel is brighter the more and the higher its points."""
    x_min, y_min, _, x_max, y_max, _ = picture.range_m
    height_px = round(width_px * picture.aspect)
    density = np.zeros((height_px * width_px, 1))
    tint = np.zeros((height_px * width_px, 3))
    for color, agent in zip(agent_colors(len(picture.agents)), picture.agents, strict=True):
        xyz = transform_points(agent.ego_SE3_agent, agent.points[:, :3].astype(np.float64))
        column = np.floor((xyz[:, 0] - x_min) / (x_max - x_min) * width_px).astype(np.int64)
        row = np.floor((xyz[:, 1] - y_min) / (y_max - y_min) * height_px).astype(np.int64)
        inside = (column >= 0) & (column < width_px) & (row >= 0) & (row < height_px)
        ground = np.percentile(xyz[:, 2], 30) if len(xyz) else 0.0
        weight = np.where(xyz[:, 2] > ground + 0.4, 1.0, 0.22)
        cell = row[inside] * width_px + column[inside]
        # A vertical wall puts a hundred points into one pixel; the square root limits its brightness.
        light = np.sqrt(np.bincount(cell, weights=weight[inside], minlength=len(density)))[:, None]
        density += light
        tint += light * rgb_floats(color)
    opacity = 1 - np.exp(-0.8 * density)
    shaded = np.array(rgb_floats(BACKGROUND)) * (1 - opacity) + opacity * tint / np.maximum(density, 1e-9)
    image: UInt8 = (255 * shaded).round().astype(np.uint8).reshape(height_px, width_px, 3)
    return image


def _draw_rings(axes: Any, picture: BevPicture) -> None:
    """Draw circles around the ego every 20 m, with their radius."""
    from matplotlib.patches import Circle

    for radius_m in range(20, int(max(picture.range_m[3:5])), 20):
        axes.add_patch(Circle((0, 0), radius_m, fill=False, color=FAINT_TEXT, alpha=0.22, linewidth=0.8, linestyle=(0, (4, 6))))
        if radius_m < picture.range_m[4]:
            axes.text(0, -radius_m, f"{radius_m} m", color=FAINT_TEXT, fontsize=9, ha="center", va="center", alpha=0.8)


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
        _label(axes, 0.55 * x, 0.55 * y, label, TEXT if used else TROUBLE, 10)


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
    """Draw detections with a line to the front edge; the box with the highest score lies on top."""
    corners = _outlines(picture.detections.corners)
    for outline, score in reversed(list(zip(corners, picture.detections.scores.tolist(), strict=True))):
        color = score_color(score)
        front, centre = outline[:2].mean(axis=0), outline[:4].mean(axis=0)
        axes.plot(*outline.T, color=color, linewidth=2.0, solid_joinstyle="round", zorder=5)
        axes.plot(*np.stack([(front + centre) / 2, front]).T, color=color, linewidth=2.0, zorder=5)


def _draw_agents(axes: Any, picture: BevPicture) -> None:
    """Draw an arrow along the heading of each agent, and its name."""
    for color, agent in zip(agent_colors(len(picture.agents)), picture.agents, strict=True):
        x, y = agent.ego_SE3_agent[:2, 3]
        heading = agent.ego_SE3_agent[:2, 0]
        side = np.array([-heading[1], heading[0]])
        size_m = (picture.range_m[3] - picture.range_m[0]) / 60
        arrow = np.array([heading, -0.7 * heading + 0.62 * side, -0.35 * heading, -0.7 * heading - 0.62 * side]) * size_m
        axes.fill(*(arrow + np.array([x, y])).T, facecolor=color, edgecolor="white", linewidth=1.2, zorder=8)
        name = f"{agent.agent_id} (ego)" if agent.message.own else agent.agent_id
        _label(axes, *_label_position(picture, (x, y), 2.0 * size_m, len(name)), name, color, 11, weight="bold")


def draw_panel(axes: Any, picture: BevPicture, height_inches: float) -> None:
    """Draw the panel beside the scene: title, agents with their messages, numbers of boxes, computing times."""
    axes.set(xlim=(0, PANEL_INCHES), ylim=(height_inches, 0), facecolor=PANEL)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(LINES)
    axes.text(0.35, 0.55, picture.title, color=TEXT, fontsize=15, weight="bold", va="center")
    axes.text(0.35, 0.9, picture.subtitle, color=FAINT_TEXT, fontsize=11, va="center")
    y = _panel_agents(axes, picture, 1.55)
    y = _panel_boxes(axes, picture, y + 0.55)
    _panel_times(axes, picture, y + 0.55)


def _panel_agents(axes: Any, picture: BevPicture, y: float) -> float:
    """Write one row for each agent from `y` inches on; return the y of the last row."""
    _panel_heading(axes, y, "AGENTS AND THEIR MESSAGES")
    for color, agent in zip(agent_colors(len(picture.agents)), picture.agents, strict=True):
        y += 0.4
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
    rows = (
        (TRUTH, 1.6, "labelled vehicles", str(len(picture.ground_truth))),
        (SCORE_COLORS[1], 2.4, "detections, brighter with score", str(len(picture.detections))),
        (None, 0, f"labelled and found, IoU {FOUND_IOU:g}", f"{int(picture.found.sum())} of {len(picture.found)}"),
        (HIDDEN, 2.4, "hidden from the ego, found", f"{hidden_found} of {int(picture.hidden.sum())}"),
    )
    _panel_heading(axes, y, "BOXES")
    for color, width, name, number in rows:
        y += 0.4
        if color is not None:
            square = np.array([[0.34, -0.1], [0.6, -0.1], [0.6, 0.1], [0.34, 0.1], [0.34, -0.1]])
            ring = np.array([[0.47 + 0.13 * np.cos(a), 0.13 * np.sin(a)] for a in np.linspace(0, 2 * np.pi, 30)])
            axes.plot(*((ring if color == HIDDEN else square) + np.array([0, y])).T, color=color, linewidth=width)
        _panel_row(axes, y, name, number, TEXT)
    return y


def _panel_times(axes: Any, picture: BevPicture, y: float) -> None:
    """Write the time of every stage from `y` inches on; of the agents, which run in parallel, the slowest one counts."""
    agents = [agent.message.latency for agent in picture.agents if agent.message.latency is not None]
    node = picture.node
    rows = [] if node is None else [("unpack", node.unpack_ms), ("fuse", node.fuse_ms), ("decode", node.decode_ms)]
    if agents:
        rows = [(name, max(getattr(times, f"{name}_ms") for times in agents)) for name in ("sense", "encode", "pack")] + rows
    _panel_heading(axes, y, "COMPUTING TIME, SLOWEST AGENT")
    for name, milliseconds in rows:
        y += 0.36
        _panel_row(axes, y, name, f"{milliseconds:.1f} ms", FAINT_TEXT)


def _panel_heading(axes: Any, y: float, text: str) -> None:
    axes.text(0.35, y, text, color=FAINT_TEXT, fontsize=10, weight="bold", va="center")


def _panel_row(axes: Any, y: float, name: str, value: str, tint: str) -> None:
    axes.text(0.72, y, name, color=TEXT, fontsize=12, va="center")
    axes.text(PANEL_INCHES - 0.35, y, value, color=tint, fontsize=12, va="center", ha="right")


def format_bytes(size: int) -> str:
    """Return a number of bytes as text in B, kB (1000 B) or MB."""
    for unit, divisor in (("MB", 1e6), ("kB", 1e3)):
        if size >= divisor:
            return f"{size / divisor:.1f} {unit}"
    return f"{size} B"


def _clock(timestamp_ns: int) -> str:
    """Return a timestamp as text: seconds since the start of the run, or the time of day of a Unix timestamp."""
    seconds = timestamp_ns / 1e9
    if seconds < EPOCH_TIMES_FROM_S:
        return f"t = {seconds:.1f} s"
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%H:%M:%S.%f}"[:-5] + " UTC"


def _label(axes: Any, x: float, y: float, text: str, color: str, size: float, weight: str = "normal") -> None:
    """Write text on a dark box, so that it is readable over points; text outside the axes is clipped."""
    box = {"boxstyle": "round,pad=0.22", "facecolor": BACKGROUND, "edgecolor": "none", "alpha": 0.78}
    axes.text(x, y, text, color=color, fontsize=size, weight=weight, ha="center", va="center", bbox=box, zorder=9, clip_on=True)


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
    outlines: Float64 = corners[:, [0, 1, 2, 3, 0], :2].double().numpy()
    return outlines
