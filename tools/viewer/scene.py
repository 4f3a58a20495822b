"""The 3D panel of the live view: point clouds and heat maps of agents, boxes in the ego's frame, and links between agents.

Everything is placed in the world frame, so that buildings stay still and agents move. World coordinates can be millions of metres,
which single precision resolves to half a metre only; the view therefore subtracts the position of the first ego.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from heal.agents.message_records import MessageRecord
from heal.agents.records import AgentView, TickResult
from heal.se3 import relative_SE3, transform_points
from heal.tools.pictures.colors import BACKGROUND, FAINT_TEXT, HIDDEN, LINES, TEXT, TROUBLE, TRUTH, rgb_bytes, score_color
from heal.tools.pictures.picture import BevPicture, format_bytes
from heal.tools.viewer.log import EntityPath, TickLog
from heal.types import Float32, Float64, UInt8

AGENTS, EGO, LINKS = ("world", "agents"), ("world", "ego"), ("world", "links")
LINK_COLORS: Mapping[str, str] = {
    "used": TEXT,
    "held": "#c297ff",
    "late": "#ff9f43",
    "lost": TROUBLE,
    "rejected": "#ff3b6b",
    "out of range": FAINT_TEXT,
    "not sent": TROUBLE,
}
VOXEL_M = 0.2
# Points get lighter from the first height above the ground on, over the second height.
GROUND_M, FADE_M = 0.4, 2.5
# Length, width and height of the box at an agent; how much larger than its label the box around a hidden vehicle is.
BODY_M, HALO_M = (4.2, 1.8, 0.5), 0.7
# A link is drawn as an arch whose height is this share of its length, so that it stays visible above boxes.
ARCH, ARCH_POINTS = 0.12, 24
Fill = Literal["majorwireframe", "transparentfillmajorwireframe"]
# Scores up to the first are hidden (an empty road has them); scores from the second on have the full colour.
LEAST_SCORE, FULL_SCORE = 0.2, 0.7
CELL_HEIGHT_M = 0.05


@dataclass(frozen=True)
class Placement:
    """How ticks are placed in the view.

    Attributes:
        origin_m: (3,) position of the view's origin in the world.
        range_m: x_min, y_min, z_min, x_max, y_max, z_max of the grid around every agent.
        most_points: number of points that a cloud is reduced to.
    """

    origin_m: Float64
    range_m: Sequence[float]
    most_points: int

    def transform(self, world_SE3_agent: Float64) -> Any:
        """Return rerun's transform from an agent's frame to the view.

        Args:
            world_SE3_agent: (4, 4) pose of the agent.
        """
        import rerun as rr

        return rr.Transform3D(translation=world_SE3_agent[:3, 3] - self.origin_m, mat3x3=world_SE3_agent[:3, :3])


def log_scene(log: TickLog, placement: Placement, result: TickResult, picture: BevPicture) -> None:
    """Show the agents, boxes and links of a tick."""
    records = {record.agent_id: record for record in result.messages}
    for view in result.views:
        _log_agent(log, placement, view, records[view.agent_id], ground_level(view, result))
    log.show(EGO, placement.transform(result.world_SE3_ego))
    _log_boxes(log, picture)
    _log_range(log, placement.range_m)
    for view in result.views:
        if not records[view.agent_id].own:
            _log_link(log, placement, result, view, records[view.agent_id])


def _log_agent(log: TickLog, placement: Placement, view: AgentView, record: MessageRecord, ground_m: float) -> None:
    """Show an agent's name, body, heading, point cloud, and heat map.

    Args:
        log: recording to write to.
        placement: origin and range of the view.
        view: pose, points and heat map of the agent.
        record: the agent's message.
        ground_m: height of the ground in the agent's frame.
    """
    import rerun as rr

    path, color = (*AGENTS, view.agent_id), log.color(view.agent_id)
    log.show(path, placement.transform(view.world_SE3_agent))
    points = subsample(view.points, placement.most_points)
    log.show((*path, "cloud"), rr.Points3D(points, colors=shade(points, color, ground_m), radii=rr.Radius.ui_points(1.2)))
    log_heading(log, path, f"{view.agent_id}  {record.agent_type}{'  ego' if record.own else ''}", color)
    log.show((*path, "heat"), _ground_cells(view.heat, color, placement.range_m, ground_m))


def log_heading(log: TickLog, path: EntityPath, name: str, color: str) -> None:
    """Show an agent's body, an arrow along its heading, and its name, in the agent's frame at `path`."""
    import rerun as rr

    log.show((*path, "body"), rr.Boxes3D(sizes=[BODY_M], colors=[rgb_bytes(color)], fill_mode="solid"))
    log.show((*path, "heading"), rr.Arrows3D(vectors=[[6.0, 0, 0]], origins=[[0, 0, 0.6]], radii=0.18, colors=[rgb_bytes(color)]))
    log.show((*path, "name"), rr.Points3D([[0, 0, 2.5]], labels=[name], colors=[rgb_bytes(color)], radii=0.01, show_labels=True))


def _ground_cells(heat: Float32, color: str, range_m: Sequence[float], ground_m: float) -> Any:
    """Return boxes that cover the foreground cells of a heat map on the ground around its agent."""
    import rerun as rr

    centres, shares = foreground_cells(heat, range_m)
    cell_m = (range_m[3] - range_m[0]) / heat.shape[1]
    height = np.full((len(centres), 1), ground_m + CELL_HEIGHT_M)
    colors = blend(BACKGROUND, color, 0.25 + 0.75 * shares)
    size = [cell_m, cell_m, CELL_HEIGHT_M]
    return rr.Boxes3D(centers=np.hstack([centres, height]), sizes=[size], colors=colors, fill_mode="solid")


def foreground_cells(heat: Float32, range_m: Sequence[float]) -> tuple[Float64, Float64]:
    """Find the cells of a heat map with a score above `LEAST_SCORE`.

    Args:
        heat: (ny, nx) foreground score in [0, 1]; the first row is at y_min.
        range_m: x_min, y_min, z_min, x_max, y_max, z_max of the map.

    Returns:
        (N, 2) centres of the cells, in metres in the agent's frame, and (N,) the scores scaled from `LEAST_SCORE` = 0 to
        `FULL_SCORE` = 1.
    """
    rows, columns = np.nonzero(heat > LEAST_SCORE)
    ny, nx = heat.shape
    x = range_m[0] + (columns + 0.5) * (range_m[3] - range_m[0]) / nx
    y = range_m[1] + (rows + 0.5) * (range_m[4] - range_m[1]) / ny
    above = heat[rows, columns].astype(np.float64) - LEAST_SCORE
    return np.stack([x, y], axis=1), np.clip(above / (FULL_SCORE - LEAST_SCORE), 0, 1)


def _log_boxes(log: TickLog, picture: BevPicture) -> None:
    """Show detections, brighter with the score; labelled vehicles; and the labelled vehicles that are hidden from the ego."""
    found, truth = picture.detections, picture.ground_truth
    scores, texts = found.scores.tolist(), [f"{score:.2f}" for score in found.scores.tolist()]
    if len(picture.class_names) > 1:
        names = [picture.class_names[number] for number in found.classes.tolist()]
        texts = [f"{name} {text}" for name, text in zip(names, texts, strict=True)]
    colors = [tuple(round(255 * part) for part in score_color(score)) for score in scores]
    log.show(
        (*EGO, "detections"),
        boxes_3d(found.boxes.numpy(), colors, 0.07, texts, "transparentfillmajorwireframe"),
    )
    log.show((*EGO, "labels"), boxes_3d(truth.boxes.numpy(), [rgb_bytes(TRUTH)], 0.05, None, "majorwireframe"))
    hidden = truth.boxes.numpy()[picture.hidden]
    hidden[:, 3:6] += HALO_M
    states = ["hidden, found" if seen else "hidden, missed" for seen in picture.found[picture.hidden]]
    log.show((*EGO, "hidden"), boxes_3d(hidden, [rgb_bytes(HIDDEN)], 0.12, states, "transparentfillmajorwireframe"))


def boxes_3d(boxes: Float32, colors: Sequence[Any], radius_m: float, labels: Sequence[str] | None, fill: Fill) -> Any:
    """Return rerun's boxes.

    Args:
        boxes: (N, 7) x, y, z, h, w, l in metres, yaw in radians, in the ego's frame.
        colors: red, green, blue of every box, or one colour for all.
        radius_m: half the width of the lines.
        labels: text of every box under the pointer; None for no text.
        fill: whether the faces are drawn.
    """
    import rerun as rr

    half = boxes[:, 6] / 2
    turns = np.stack([np.zeros_like(half), np.zeros_like(half), np.sin(half), np.cos(half)], axis=1)
    return rr.Boxes3D(
        centers=boxes[:, :3],
        sizes=boxes[:, [5, 4, 3]],
        quaternions=turns,
        colors=colors,
        radii=radius_m,
        labels=labels,
        show_labels=False,
        fill_mode=fill,
    )


def _log_range(log: TickLog, range_m: Sequence[float]) -> None:
    """Show the border of the range in which boxes are evaluated."""
    import rerun as rr

    x_min, y_min, _, x_max, y_max, _ = range_m
    corners = [[x_min, y_min, 0], [x_max, y_min, 0], [x_max, y_max, 0], [x_min, y_max, 0], [x_min, y_min, 0]]
    log.show((*EGO, "range"), rr.LineStrips3D([corners], colors=[rgb_bytes(LINES)], radii=0.08))


def _log_link(log: TickLog, placement: Placement, result: TickResult, view: AgentView, record: MessageRecord) -> None:
    """Show a message as an arch from its sender to the ego, with a label, in the colour of its status."""
    import rerun as rr

    label, color = link_label(result, record)
    start, end = view.world_SE3_agent[:3, 3] - placement.origin_m, result.world_SE3_ego[:3, 3] - placement.origin_m
    along = np.linspace(0, 1, ARCH_POINTS)[:, None]
    arch = start + along * (end - start)
    arch[:, 2] += 4 * ARCH * np.linalg.norm(end - start) * (along * (1 - along))[:, 0]
    path = (*LINKS, record.agent_id)
    log.show(path, rr.LineStrips3D([arch], colors=[rgb_bytes(color)], radii=0.12, labels=[label], show_labels=True))


def link_label(result: TickResult, record: MessageRecord) -> tuple[str, str]:
    """Return the text of a link (status, size, time) and its colour, "#rrggbb"; a held map has its own colour and text."""
    held = {kept.agent_id: kept for kept in result.held}.get(record.agent_id)
    size = format_bytes(record.size_bytes)
    took = "" if record.link_ms is None else f"  {record.link_ms:.0f} ms"
    if held is not None:
        return f"{record.status}, held {held.age_ms:.0f} ms at {held.weight:.2f}", LINK_COLORS["held"]
    if record.status == "not sent":
        return f"{record.status}: {record.reason}", LINK_COLORS[record.status]
    label = f"{size}{took}" if record.status == "used" else f"{record.status}  {size}{took}"
    return label, LINK_COLORS[record.status]


def subsample(points: Float32, most: int) -> Float32:
    """Reduce a cloud to the first point of each voxel of `VOXEL_M`, then evenly to at most `most` points.

    Args:
        points: (N, 4) x, y, z in metres, intensity.
        most: largest number of points.

    Returns:
        (M, 3) x, y, z of the points that are left.
    """
    cells = np.floor(points[:, :3] / VOXEL_M).astype(np.int64) + 2**20
    keys = (cells[:, 0] << 42) | (cells[:, 1] << 21) | cells[:, 2]
    chosen = np.sort(np.unique(keys, return_index=True)[1])
    if len(chosen) > most:
        chosen = chosen[np.linspace(0, len(chosen) - 1, most).astype(np.int64)]
    kept: Float32 = points[chosen, :3]
    return kept


def ground_level(view: AgentView, result: TickResult) -> float:
    """Estimate the height of the ground in an agent's frame, in metres: from its points, else from labelled boxes, else 0."""
    if len(view.points):
        return float(np.percentile(view.points[:, 2], 20))
    bottoms = result.ground_truth.corners[:, :4].double().numpy()
    if not len(bottoms):
        return 0.0
    return float(np.median(transform_points(relative_SE3(view.world_SE3_agent, result.world_SE3_ego), bottoms)[..., 2]))


def shade(points: Float32, color: str, ground_m: float) -> UInt8:
    """Return the colours (N, 3) of an agent's points: dark on the ground, lighter with height.

    Args:
        points: (N, 3) x, y, z in metres in the agent's frame.
        color: colour of the agent, "#rrggbb".
        ground_m: height of the ground in the agent's frame.
    """
    height = np.clip((points[:, 2] - ground_m - GROUND_M) / FADE_M, -0.01, 1)
    light = np.where(height < 0, 0.38, 0.65 + 0.35 * height)
    return blend(BACKGROUND, color, light)


def blend(low: str, high: str, share: Float64) -> UInt8:
    """Return colours (N, 3) between two colours "#rrggbb"; `share` (N,) is the part of the second one."""
    mixed: UInt8 = (np.outer(1 - share, rgb_bytes(low)) + np.outer(share, rgb_bytes(high))).round().astype(np.uint8)
    return mixed
