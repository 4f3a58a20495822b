"""One tick seen from above: clouds in their agents' colours, links, boxes, and the vehicles that are hidden from the ego."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np
import torch

from heal.agents.records import MessageRecord, NodeLatency, TickResult
from heal.datasets.visibility import HIDDEN_BELOW, SEEN_ABOVE, points_in_boxes
from heal.detection.boxes import corners_to_boxes
from heal.detection.detections import Detections, GroundTruth
from heal.detection.metrics import IOU_THRESHOLDS
from heal.se3 import inverse_SE3, relative_SE3, transform_points
from heal.types import BoolMask, Float32, Float64, UInt8

FOUND_IOU = 0.5
# Times before this are counted from a run's start, later ones from that of an era.
ERA_STARTS_S = 1e8

BACKGROUND, PANEL, LINES = "#0d1117", "#151b23", "#30363d"
TEXT, FAINT_TEXT = "#e6edf3", "#8b949e"
TRUTH, HIDDEN, TROUBLE = "#3fb950", "#ff7edb", "#ff6b60"
SCORE_COLORS = ("#7d5a16", "#ffd84d")
# The ego first; muted, so that boxes stand out.
AGENT_COLORS = ("#6cb6ff", "#d9a066", "#b79af2", "#6fc3a4", "#e08d80", "#93a4b8")
BEV_INCHES, PANEL_INCHES = 10.0, 4.3


@dataclass(frozen=True)
class BevAgent:
    """An agent in a picture: its pose in the ego's frame, its points (N, 4) in its own, and what became of its message."""

    agent_id: str
    ego_SE3_agent: Float64
    points: Float32
    message: MessageRecord


@dataclass(frozen=True)
class BevPicture:
    """Everything that is drawn.

    Attributes:
        title: in the panel, such as the scene's name.
        subtitle: below it.
        range_m: x_min, y_min, z_min, x_max, y_max, z_max in the ego's frame.
        agents: ego first; those whose place is not known are left out.
        detections: found boxes.
        ground_truth: G labelled vehicles.
        found: (G,) bool, found at IoU 0.5.
        hidden: (G,) bool, the ego has fewer than 5 points on it and another agent that takes part more than 20.
        node: time that the fusion node took; None if it was away.
        caption: in the scene's corner; tells pictures side by side apart.
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
        """Height over width of the range."""
        return float((self.range_m[4] - self.range_m[1]) / (self.range_m[3] - self.range_m[0]))


def picture_of(result: TickResult, range_m: Sequence[float]) -> BevPicture:
    """The picture of a tick; run with `keep_views`, else there are only boxes in it."""
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
    """(G,) which vehicles the ego, `agents[0]`, all but misses while another agent sees them well; never the ego's own."""
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


def render(pictures: Sequence[BevPicture], width_px: int = 1600) -> UInt8:
    """Pictures side by side, the last one's panel at the right; (H, W, 3) RGB."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    bev_inches = BEV_INCHES if pictures[0].aspect > 0.75 else 1.4 * BEV_INCHES
    height = bev_inches * pictures[0].aspect
    width = len(pictures) * bev_inches + PANEL_INCHES
    figure = Figure(figsize=(width, height), dpi=width_px / width, facecolor=BACKGROUND)
    canvas = FigureCanvasAgg(figure)
    for i, picture in enumerate(pictures):
        axes = figure.add_axes((i * bev_inches / width, 0, bev_inches / width, 1))
        draw_bev(axes, picture, round(bev_inches * figure.dpi))
        axes.text(0.02, 0.975, picture.caption, transform=axes.transAxes, color=TEXT, fontsize=17, weight="bold", va="top")
        axes.axvline(picture.range_m[3], color=LINES, linewidth=2)
    panel = figure.add_axes((1 - PANEL_INCHES / width, 0, PANEL_INCHES / width, 1))
    draw_panel(panel, pictures[-1], height)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def draw_bev(axes: Any, picture: BevPicture, width_px: int) -> None:
    """Draw the scene on matplotlib axes that are `width_px` wide."""
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
    """All clouds as light of their agents' colours, more where points are dense or high; (H, W, 3), first row at y_min."""
    x_min, y_min, _, x_max, y_max, _ = picture.range_m
    height_px = round(width_px * picture.aspect)
    density = np.zeros((height_px * width_px, 1))
    tint = np.zeros((height_px * width_px, 3))
    for color, agent in zip(_colors(len(picture.agents)), picture.agents, strict=True):
        xyz = transform_points(agent.ego_SE3_agent, agent.points[:, :3].astype(np.float64))
        column = np.floor((xyz[:, 0] - x_min) / (x_max - x_min) * width_px).astype(np.int64)
        row = np.floor((xyz[:, 1] - y_min) / (y_max - y_min) * height_px).astype(np.int64)
        inside = (column >= 0) & (column < width_px) & (row >= 0) & (row < height_px)
        ground = np.percentile(xyz[:, 2], 30) if len(xyz) else 0.0
        weight = np.where(xyz[:, 2] > ground + 0.4, 1.0, 0.22)
        cell = row[inside] * width_px + column[inside]
        # A wall seen edge on holds a hundred points in one pixel; the root keeps it from outshining everything.
        seen = np.sqrt(np.bincount(cell, weights=weight[inside], minlength=len(density)))[:, None]
        density += seen
        tint += seen * _rgb(color)
    light = 1 - np.exp(-0.8 * density)
    shaded = np.array(_rgb(BACKGROUND)) * (1 - light) + light * tint / np.maximum(density, 1e-9)
    image: UInt8 = (255 * shaded).round().astype(np.uint8).reshape(height_px, width_px, 3)
    return image


def _draw_rings(axes: Any, picture: BevPicture) -> None:
    from matplotlib.patches import Circle

    for radius_m in range(20, int(max(picture.range_m[3:5])), 20):
        axes.add_patch(Circle((0, 0), radius_m, fill=False, color=FAINT_TEXT, alpha=0.22, linewidth=0.8, linestyle=(0, (4, 6))))
        if radius_m < picture.range_m[4]:
            axes.text(0, -radius_m, f"{radius_m} m", color=FAINT_TEXT, fontsize=9, ha="center", va="center", alpha=0.8)


def _draw_links(axes: Any, picture: BevPicture) -> None:
    for color, agent in zip(_colors(len(picture.agents)), picture.agents, strict=True):
        if agent.message.own:
            continue
        used = agent.message.status == "used"
        x, y = agent.ego_SE3_agent[:2, 3]
        style: Any = "-" if used else (0, (3, 3))
        axes.plot([0, x], [0, y], color=color if used else TROUBLE, linewidth=1.6, linestyle=style, alpha=0.75, zorder=3)
        label = format_bytes(agent.message.size_bytes) if used else agent.message.status
        _label(axes, 0.55 * x, 0.55 * y, label, TEXT if used else TROUBLE, 10)


def _draw_truth(axes: Any, picture: BevPicture) -> None:
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
    corners = _outlines(picture.detections.corners)
    for outline, score in reversed(list(zip(corners, picture.detections.scores.tolist(), strict=True))):
        color = score_color(score)
        front, centre = outline[:2].mean(axis=0), outline[:4].mean(axis=0)
        axes.plot(*outline.T, color=color, linewidth=2.0, solid_joinstyle="round", zorder=5)
        axes.plot(*np.stack([(front + centre) / 2, front]).T, color=color, linewidth=2.0, zorder=5)


def _draw_agents(axes: Any, picture: BevPicture) -> None:
    for color, agent in zip(_colors(len(picture.agents)), picture.agents, strict=True):
        x, y = agent.ego_SE3_agent[:2, 3]
        heading = agent.ego_SE3_agent[:2, 0]
        side = np.array([-heading[1], heading[0]])
        size_m = (picture.range_m[3] - picture.range_m[0]) / 60
        arrow = np.array([heading, -0.7 * heading + 0.62 * side, -0.35 * heading, -0.7 * heading - 0.62 * side]) * size_m
        axes.fill(*(arrow + np.array([x, y])).T, facecolor=color, edgecolor="white", linewidth=1.2, zorder=8)
        name = f"{agent.agent_id} (ego)" if agent.message.own else agent.agent_id
        _label(axes, *_free_place(picture, (x, y), 2.0 * size_m, len(name)), name, color, 11, weight="bold")


def draw_panel(axes: Any, picture: BevPicture, height_inches: float) -> None:
    """Draw the legend and the numbers beside a scene."""
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
    _panel_heading(axes, y, "AGENTS AND THEIR MESSAGES")
    for color, agent in zip(_colors(len(picture.agents)), picture.agents, strict=True):
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
    hidden_found = int((picture.hidden & picture.found).sum())
    rows = (
        (TRUTH, 1.6, "labelled vehicles", str(len(picture.ground_truth))),
        (SCORE_COLORS[1], 2.4, "detections, brighter if surer", str(len(picture.detections))),
        (None, 0, f"labelled and found, IoU {FOUND_IOU:g}", f"{int(picture.found.sum())} of {len(picture.found)}"),
        (HIDDEN, 2.4, "hidden from the ego, found", f"{hidden_found} of {int(picture.hidden.sum())}"),
    )
    _panel_heading(axes, y, "BOXES")
    for color, width, words, number in rows:
        y += 0.4
        if color is not None:
            square = np.array([[0.34, -0.1], [0.6, -0.1], [0.6, 0.1], [0.34, 0.1], [0.34, -0.1]])
            ring = np.array([[0.47 + 0.13 * np.cos(a), 0.13 * np.sin(a)] for a in np.linspace(0, 2 * np.pi, 30)])
            axes.plot(*((ring if color == HIDDEN else square) + np.array([0, y])).T, color=color, linewidth=width)
        _panel_row(axes, y, words, number, TEXT)
    return y


def _panel_times(axes: Any, picture: BevPicture, y: float) -> None:
    """The agents' stages of the slowest agent, as they compute side by side."""
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


def _panel_row(axes: Any, y: float, words: str, value: str, tint: str) -> None:
    axes.text(0.72, y, words, color=TEXT, fontsize=12, va="center")
    axes.text(PANEL_INCHES - 0.35, y, value, color=tint, fontsize=12, va="center", ha="right")


def format_bytes(size: int) -> str:
    """Bytes as people say them, in powers of ten."""
    for unit, divisor in (("MB", 1e6), ("kB", 1e3)):
        if size >= divisor:
            return f"{size / divisor:.1f} {unit}"
    return f"{size} B"


def score_color(score: float) -> tuple[float, float, float]:
    """From dim to bright with the score."""
    dim, bright = np.array(_rgb(SCORE_COLORS[0])), np.array(_rgb(SCORE_COLORS[1]))
    r, g, b = (dim + (bright - dim) * np.clip((score - 0.2) / 0.5, 0, 1)).tolist()
    return r, g, b


def palette(steps: int = 16) -> UInt8:
    """(256, 3) the colours of these pictures, each shaded down to the background; for images that can hold no more."""
    accents = (*AGENT_COLORS, *SCORE_COLORS, TEXT, FAINT_TEXT, TRUTH, HIDDEN, TROUBLE, "#ffffff")
    shades = [
        np.array(_rgb(BACKGROUND)) * (1 - k / steps) + np.array(_rgb(c)) * k / steps for c in accents for k in range(1, steps + 1)
    ]
    rows = np.array([_rgb(BACKGROUND), _rgb(PANEL), _rgb(LINES), *shades])
    colors: UInt8 = (255 * np.pad(rows, ((0, 256 - len(rows)), (0, 0)), mode="edge")).round().astype(np.uint8)
    return colors


def _clock(timestamp_ns: int) -> str:
    """Seconds since the start, or the time of day where the start is that of an era."""
    seconds = timestamp_ns / 1e9
    if seconds < ERA_STARTS_S:
        return f"t = {seconds:.1f} s"
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%H:%M:%S.%f}"[:-5] + " UTC"


def _label(axes: Any, x: float, y: float, text: str, color: str, size: float, weight: str = "normal") -> None:
    """Text that stays readable over points, and does not leave the picture."""
    box = {"boxstyle": "round,pad=0.22", "facecolor": BACKGROUND, "edgecolor": "none", "alpha": 0.78}
    axes.text(x, y, text, color=color, fontsize=size, weight=weight, ha="center", va="center", bbox=box, zorder=9, clip_on=True)


def _free_place(picture: BevPicture, place: tuple[float, float], distance_m: float, letters: int) -> tuple[float, float]:
    """Above, below, left or right of a point: where the next box is farthest away, inside the picture."""
    x_max, y_max = picture.range_m[3:5]
    boxes = torch.cat([picture.ground_truth.corners, picture.detections.corners])[:, :4, :2].mean(dim=1).double().numpy()
    sideways = 0.7 + 0.16 * letters
    offsets = np.array([[0, 1], [0, -1], [sideways, 0], [-sideways, 0]]) * distance_m
    inner = np.array([x_max - 0.16 * letters * distance_m, y_max - distance_m])
    places = np.clip(np.array(place) + offsets, -inner, inner)
    room = [np.linalg.norm(boxes - centre, axis=1).min(initial=1e9) for centre in places]
    best_x, best_y = places[int(np.argmax(np.minimum(room, 1.5 * distance_m)))]
    return float(best_x), float(best_y)


def _outlines(corners: torch.Tensor) -> Float64:
    """(N, 5, 2) closed footprints, the front edge first."""
    outlines: Float64 = corners[:, [0, 1, 2, 3, 0], :2].double().numpy()
    return outlines


def agent_color(place: int) -> str:
    """The colour of the agent at a place in a row, from 0 on."""
    return AGENT_COLORS[color_number(place)]


def color_number(place: int) -> int:
    """Which of `AGENT_COLORS` that is: the first one is the ego's alone."""
    return 1 + (place - 1) % (len(AGENT_COLORS) - 1) if place else 0


def _colors(count: int) -> list[str]:
    return [agent_color(place) for place in range(count)]


def _rgb(color: str) -> tuple[float, float, float]:
    r, g, b = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return r, g, b
