"""A tick as things in a live 3D view: clouds and heat maps at their agents, boxes at the ego, links between them.

Everything is placed in the world, so that the town stays still and the agents drive through it. Coordinates of worlds can be
millions of metres, more than single precision holds; a view counts them from where its first ego stood.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from heal.agents.records import AgentView, MessageRecord, TickResult
from heal.se3 import relative_SE3, transform_points
from heal.tools.pictures.bev import (
    BACKGROUND,
    FAINT_TEXT,
    HIDDEN,
    LINES,
    TEXT,
    TROUBLE,
    TRUTH,
    BevPicture,
    format_bytes,
    score_color,
)
from heal.tools.viewer.log import TickLog, rgb
from heal.types import Float32, Float64, UInt8

AGENTS, EGO, LINKS = ("world", "agents"), ("world", "ego"), ("world", "links")
LINK_COLORS: Mapping[str, str] = {
    "used": TEXT,
    "held": "#c297ff",
    "late": "#ff9f43",
    "lost": TROUBLE,
    "rejected": "#ff3b6b",
    "out of range": FAINT_TEXT,
}
VOXEL_M = 0.2
GROUND_M, FADE_M = 0.4, 2.5
BODY_M, HALO_M = (4.2, 1.8, 0.5), 0.7
# Links rise like arches of this share of their length, so that they are seen above the boxes that they cross.
ARCH, ARCH_POINTS = 0.12, 24
Fill = Literal["majorwireframe", "transparentfillmajorwireframe"]
# Heat below this is what any empty road has.
COOL, HOT = 0.2, 0.7
TILE_M = 0.05


@dataclass(frozen=True)
class Placement:
    """The view's origin (3,) in the world, the grid's range around every agent, and how many points a cloud may have."""

    origin_m: Float64
    range_m: Sequence[float]
    most_points: int

    def transform(self, world_SE3_agent: Float64) -> Any:
        """A pose as rerun's transform from the agent's frame to the view."""
        import rerun as rr

        return rr.Transform3D(translation=world_SE3_agent[:3, 3] - self.origin_m, mat3x3=world_SE3_agent[:3, :3])


def log_scene(log: TickLog, placement: Placement, result: TickResult, picture: BevPicture) -> None:
    """Show a tick in 3D."""
    records = {record.agent_id: record for record in result.messages}
    for view in result.views:
        _log_agent(log, placement, view, records[view.agent_id], ground_level(view, result))
    log.put(EGO, placement.transform(result.world_SE3_ego))
    _log_boxes(log, picture)
    _log_range(log, placement.range_m)
    for view in result.views:
        if not records[view.agent_id].own:
            _log_link(log, placement, result, view, records[view.agent_id])


def _log_agent(log: TickLog, placement: Placement, view: AgentView, record: MessageRecord, ground_m: float) -> None:
    """An agent's place and name, its cloud, and what it takes for foreground as a carpet on the ground."""
    import rerun as rr

    path, color = (*AGENTS, view.agent_id), log.color(view.agent_id)
    log.put(path, placement.transform(view.world_SE3_agent))
    points = thin(view.points, placement.most_points)
    log.put((*path, "cloud"), rr.Points3D(points, colors=shade(points, color, ground_m), radii=rr.Radius.ui_points(1.2)))
    name = f"{view.agent_id}  {record.agent_type}{'  ego' if record.own else ''}"
    log.put((*path, "body"), rr.Boxes3D(sizes=[BODY_M], colors=[rgb(color)], fill_mode="solid"))
    log.put((*path, "heading"), rr.Arrows3D(vectors=[[6.0, 0, 0]], origins=[[0, 0, 0.6]], radii=0.18, colors=[rgb(color)]))
    log.put((*path, "name"), rr.Points3D([[0, 0, 2.5]], labels=[name], colors=[rgb(color)], radii=0.01, show_labels=True))
    log.put((*path, "heat"), _carpet(view.heat, color, placement.range_m, ground_m))


def _carpet(heat: Float32, color: str, range_m: Sequence[float], ground_m: float) -> Any:
    """The hot cells of a heat map, each as a tile on the ground around its agent."""
    import rerun as rr

    centres, warmth = hot_cells(heat, range_m)
    cell_m = (range_m[3] - range_m[0]) / heat.shape[1]
    height = np.full((len(centres), 1), ground_m + TILE_M)
    colors = blend(BACKGROUND, color, 0.25 + 0.75 * warmth)
    tile = [cell_m, cell_m, TILE_M]
    return rr.Boxes3D(centers=np.hstack([centres, height]), sizes=[tile], colors=colors, fill_mode="solid")


def hot_cells(heat: Float32, range_m: Sequence[float]) -> tuple[Float64, Float64]:
    """The cells of a heat map (ny, nx) that see any foreground.

    Returns:
        (N, 2) their centres, metres around the agent, and (N,) how hot they are, from 0 to 1.
    """
    rows, columns = np.nonzero(heat > COOL)
    ny, nx = heat.shape
    x = range_m[0] + (columns + 0.5) * (range_m[3] - range_m[0]) / nx
    y = range_m[1] + (rows + 0.5) * (range_m[4] - range_m[1]) / ny
    warmth = np.clip((heat[rows, columns].astype(np.float64) - COOL) / (HOT - COOL), 0, 1)
    return np.stack([x, y], axis=1), warmth


def _log_boxes(log: TickLog, picture: BevPicture) -> None:
    """What was found, brighter if surer; what is labelled; and of that what is hidden from the ego."""
    found, truth = picture.detections, picture.ground_truth
    scores = found.scores.tolist()
    colors = [tuple(round(255 * part) for part in score_color(score)) for score in scores]
    log.put(
        (*EGO, "detections"),
        _boxes(found.boxes.numpy(), colors, 0.07, [f"{score:.2f}" for score in scores], "transparentfillmajorwireframe"),
    )
    log.put((*EGO, "labels"), _boxes(truth.boxes.numpy(), [rgb(TRUTH)], 0.05, None, "majorwireframe"))
    hidden = truth.boxes.numpy()[picture.hidden]
    hidden[:, 3:6] += HALO_M
    names = ["hidden, found" if seen else "hidden, missed" for seen in picture.found[picture.hidden]]
    log.put((*EGO, "hidden"), _boxes(hidden, [rgb(HIDDEN)], 0.12, names, "transparentfillmajorwireframe"))


def _boxes(boxes: Float32, colors: Sequence[Any], radius_m: float, labels: Sequence[str] | None, fill: Fill) -> Any:
    """Boxes (N, 7) x, y, z, h, w, l, yaw as rerun's."""
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
    """The border of what is evaluated."""
    import rerun as rr

    x_min, y_min, _, x_max, y_max, _ = range_m
    corners = [[x_min, y_min, 0], [x_max, y_min, 0], [x_max, y_max, 0], [x_min, y_max, 0], [x_min, y_min, 0]]
    log.put((*EGO, "range"), rr.LineStrips3D([corners], colors=[rgb(LINES)], radii=0.08))


def _log_link(log: TickLog, placement: Placement, result: TickResult, view: AgentView, record: MessageRecord) -> None:
    """The way of a message, in the colour of what became of it."""
    import rerun as rr

    words, color = link_words(result, record)
    start, end = view.world_SE3_agent[:3, 3] - placement.origin_m, result.world_SE3_ego[:3, 3] - placement.origin_m
    along = np.linspace(0, 1, ARCH_POINTS)[:, None]
    way = start + along * (end - start)
    way[:, 2] += 4 * ARCH * np.linalg.norm(end - start) * (along * (1 - along))[:, 0]
    path = (*LINKS, record.agent_id)
    log.put(path, rr.LineStrips3D([way], colors=[rgb(color)], radii=0.12, labels=[words], show_labels=True))


def link_words(result: TickResult, record: MessageRecord) -> tuple[str, str]:
    """What became of a message in few words, and the colour of that."""
    held = {kept.agent_id: kept for kept in result.held}.get(record.agent_id)
    size = format_bytes(record.size_bytes)
    took = "" if record.link_ms is None else f"  {record.link_ms:.0f} ms"
    if held is not None:
        return f"{record.status}, held {held.age_ms:.0f} ms at {held.weight:.2f}", LINK_COLORS["held"]
    words = f"{size}{took}" if record.status == "used" else f"{record.status}  {size}{took}"
    return words, LINK_COLORS[record.status]


def thin(points: Float32, most: int) -> Float32:
    """Points (N, 4) without intensity and without crowds: one in each 0.2 m voxel, then evenly to at most `most`; (M, 3)."""
    cells = np.floor(points[:, :3] / VOXEL_M).astype(np.int64) + 2**20
    keys = (cells[:, 0] << 42) | (cells[:, 1] << 21) | cells[:, 2]
    chosen = np.sort(np.unique(keys, return_index=True)[1])
    if len(chosen) > most:
        chosen = chosen[np.linspace(0, len(chosen) - 1, most).astype(np.int64)]
    kept: Float32 = points[chosen, :3]
    return kept


def ground_level(view: AgentView, result: TickResult) -> float:
    """Height of the ground in an agent's frame: of its points, or of the labelled boxes where it has none, or 0."""
    if len(view.points):
        return float(np.percentile(view.points[:, 2], 20))
    bottoms = result.ground_truth.corners[:, :4].double().numpy()
    if not len(bottoms):
        return 0.0
    return float(np.median(transform_points(relative_SE3(view.world_SE3_agent, result.world_SE3_ego), bottoms)[..., 2]))


def shade(points: Float32, color: str, ground_m: float) -> UInt8:
    """(N, 3) an agent's colour: dim on the ground, lighter the higher a point is."""
    height = np.clip((points[:, 2] - ground_m - GROUND_M) / FADE_M, -0.01, 1)
    light = np.where(height < 0, 0.38, 0.65 + 0.35 * height)
    return blend(BACKGROUND, color, light)


def blend(low: str, high: str, share: Float64) -> UInt8:
    """(N, 3) colours between two, with these shares (N,) of the second one."""
    mixed: UInt8 = (np.outer(1 - share, rgb(low)) + np.outer(share, rgb(high))).round().astype(np.uint8)
    return mixed
