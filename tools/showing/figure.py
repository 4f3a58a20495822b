"""Draw a scene: all clouds with the boxes from above, each agent's cloud alone, and the images with the boxes in them.

from heal.tools.showing.figure import draw_scene
draw_scene(source, 0)               # the last line of a notebook's cell, after %matplotlib inline
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from heal.se3 import transform_points
from heal.tools.pictures.colors import BACKGROUND, FAINT_TEXT, TEXT, TROUBLE, TRUTH
from heal.tools.pictures.margin import margin_inches, write_margin
from heal.tools.pictures.marks import aspect, draw_arrow, draw_ground, footprints, write_label
from heal.tools.showing.contents import ShownAgent, ShownScene, contents_of
from heal.tools.showing.images import image_tiles
from heal.tools.showing.reading import read_scene
from heal.tools.showing.tiles import GAP_INCHES, TITLE_INCHES, Tile, place_tiles
from heal.types import Float64, SceneSource

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH_INCHES, LINE_INCHES = 16.0, 0.27
# Views from above stand in this many columns; the one with all agents takes two columns and two rows.
COLUMNS = 3
LEGEND = (
    "green: labelled box that holds points; red: no point of any agent; grey: points of other agents alone, or an agent's own "
    "vehicle; dashed: the agent's own labels; in images the faces towards the camera are filled"
)


def draw_scene(
    source: SceneSource,
    index: int = 0,
    agents: Collection[str] | None = None,
    frame: str = "ego",
    range_m: Sequence[float] | None = None,
    boxes: bool = True,
    images: bool = True,
) -> Figure:
    """Read a scene and draw it as a matplotlib figure, for a notebook or a script.

    Args:
        source: a data set of `open_dataset`, the town, or any other source of scenes.
        index: number of the scene.
        agents: ids of the agents to show; None for all.
        frame: "ego", or "world" for the axes of the world around the ego.
        range_m: x_min, y_min, z_min, x_max, y_max, z_max in metres in that frame; None to show all agents and boxes.
        boxes: whether labelled boxes are drawn.
        images: whether images and depth are drawn.

    Raises:
        DatasetError: the scene's poses or labels cannot be read.
        UserError: an unknown frame, no such agent, or a range without an extent.
    """
    return draw_contents(contents_of(read_scene(source, index, agents, images), frame, range_m, boxes))


def draw_contents(shown: ShownScene, width_px: int = 1920, margin: str = "") -> Figure:
    """Draw a scene as a matplotlib figure; the text `margin` stands below it."""
    from matplotlib.figure import Figure

    lines = [(shown.caption, FAINT_TEXT), *((f"warning: {line}", TROUBLE) for line in shown.warnings)]
    header = 0.5 + LINE_INCHES * len(lines)
    above, below = _views_from_above(shown), image_tiles(shown)
    above_inches = _grid_inches(len(above), aspect(shown.range_m))
    columns = min(4, max(2, len(below)))
    tiles_inches, places = place_tiles([tile.aspect for tile in below], columns, WIDTH_INCHES)
    foot = f"{LEGEND}\n{margin}".strip()
    total = header + above_inches + tiles_inches + margin_inches(WIDTH_INCHES, foot)
    figure = Figure(figsize=(WIDTH_INCHES, total), dpi=width_px / WIDTH_INCHES, facecolor=BACKGROUND)
    _write_header(figure, shown.scene_id, lines)
    for tile, place in zip(above, _grid_places(len(above), aspect(shown.range_m)), strict=True):
        _draw_tile(figure, tile, place, header)
    for tile, place in zip(below, places, strict=True):
        _draw_tile(figure, tile, place, header + above_inches)
    write_margin(figure, foot)
    return figure


def _write_header(figure: Figure, title: str, lines: Sequence[tuple[str, str]]) -> None:
    """Write the name of the scene, the caption and the warnings from the upper edge on."""
    width, height = figure.get_size_inches()
    style: Any = {"ha": "left", "va": "center", "parse_math": False}
    figure.text(GAP_INCHES / width, 1 - 0.25 / height, title, color=TEXT, fontsize=15, weight="bold", **style)
    for number, (text, color) in enumerate(lines):
        y = 0.5 + LINE_INCHES * (number + 0.4)
        figure.text(GAP_INCHES / width, 1 - y / height, text, color=color, fontsize=11, **style)


def _draw_tile(figure: Figure, tile: Tile, place: tuple[float, float, float], top_inches: float) -> None:
    """Draw a tile at (left, top, width) in inches, `top_inches` below the upper edge of the figure, with its title above it."""
    width, height = figure.get_size_inches()
    left, top, tile_width = place
    tile_height = tile_width * tile.aspect
    bottom = height - top_inches - top - TITLE_INCHES - tile_height
    axes = figure.add_axes((left / width, bottom / height, tile_width / width, tile_height / height))
    tile.draw(axes, round(tile_width * figure.dpi))
    style: Any = {"fontsize": 10, "ha": "left", "va": "center", "parse_math": False}
    figure.text(left / width, (bottom + tile_height + TITLE_INCHES / 2) / height, tile.title, color=tile.color, **style)


def _grid_places(count: int, shape: float) -> list[tuple[float, float, float]]:
    """Return left, top and width in inches of the views from above: a large one on the left, the others beside and below it."""
    cell = (WIDTH_INCHES - GAP_INCHES) / COLUMNS - GAP_INCHES
    if count == 1:
        return [(GAP_INCHES, 0.0, WIDTH_INCHES - 2 * GAP_INCHES)]
    row_inches = cell * shape + TITLE_INCHES
    cells = [(2, 0), (2, 1), *((number % COLUMNS, 2 + number // COLUMNS) for number in range(max(count - 3, 0)))]
    places = [(GAP_INCHES + column * (cell + GAP_INCHES), row * row_inches, cell) for column, row in cells[: count - 1]]
    # The large view is lower than two cells by the title between them.
    return [(GAP_INCHES, 0.0, 2 * cell + GAP_INCHES), *places]


def _grid_inches(count: int, shape: float) -> float:
    """Return the height in inches of the views from above."""
    return max(top + TITLE_INCHES + width * shape for _, top, width in _grid_places(count, shape))


def _views_from_above(shown: ShownScene) -> list[Tile]:
    """Return the view of all agents together, and, of several agents, the view of each one alone."""
    shape = aspect(shown.range_m)
    together = Tile("all agents", TEXT, shape, partial(_draw_together, shown))
    alone = [Tile(agent.caption, agent.color, shape, partial(_draw_alone, shown, agent)) for agent in shown.agents]
    return [together, *alone] if len(alone) > 1 else [Tile(alone[0].title, alone[0].color, shape, together.draw)]


def _cloud(agent: ShownAgent) -> tuple[str, Float64]:
    """Return an agent's colour, and its points (N, 3) in the shown frame."""
    points = np.zeros((0, 3)) if agent.points is None else agent.points[:, :3].astype(np.float64)
    return agent.color, transform_points(agent.frame_SE3_agent, points)


def _draw_together(shown: ShownScene, axes: Any, width_px: int) -> None:
    """Draw all clouds, the boxes with the ids of the empty ones, and the agents with their names."""
    draw_ground(axes, [_cloud(agent) for agent in shown.agents], shown.range_m, width_px)
    is_own = np.any([agent.is_own for agent in shown.agents], axis=0)
    for agent in shown.agents if len(shown.agents) == 1 else ():
        _draw_boxes(axes, transform_points(agent.frame_SE3_agent, agent.own_corners), [agent.color] * len(agent.own_corners), "--")
    colors = [TROUBLE if empty else FAINT_TEXT if own else TRUTH for empty, own in zip(shown.is_empty, is_own, strict=True)]
    _draw_boxes(axes, shown.corners, colors)
    for number, place in zip(shown.ids[shown.is_empty], shown.corners[shown.is_empty].mean(axis=1), strict=True):
        axes.text(place[0], place[1], str(number), color=TROUBLE, fontsize=7, clip_on=True, zorder=7)
    size_m = (shown.range_m[3] - shown.range_m[0]) / 70
    for agent in shown.agents:
        draw_arrow(axes, agent.frame_SE3_agent, size_m, agent.color)
        name = f"{agent.agent_id} (ego)" if agent.agent_id == shown.ego_id else agent.agent_id
        x, y = agent.frame_SE3_agent[:2, 3]
        write_label(axes, x, y + 2 * size_m, name, agent.color, 11, weight="bold")


def _draw_alone(shown: ShownScene, agent: ShownAgent, axes: Any, width_px: int) -> None:
    """Draw an agent's cloud, with the scene's boxes and the agent's own labels over it."""
    draw_ground(axes, [_cloud(agent)], shown.range_m, width_px)
    _draw_boxes(axes, transform_points(agent.frame_SE3_agent, agent.own_corners), [agent.color] * len(agent.own_corners), "--")
    _draw_boxes(axes, shown.corners, [box_color(*each) for each in zip(agent.hits > 0, shown.is_empty, strict=True)])
    draw_arrow(axes, agent.frame_SE3_agent, (shown.range_m[3] - shown.range_m[0]) / 50, agent.color)


def box_color(has_points: bool, is_empty: bool) -> str:
    """Return the colour of a box in an agent's picture: whether the agent has points in it, or no agent has."""
    return TRUTH if has_points else TROUBLE if is_empty else FAINT_TEXT


def _draw_boxes(axes: Any, corners: Float64, colors: Sequence[str], style: str = "-") -> None:
    """Draw the footprints of boxes (N, 8, 3), each with a line from its centre to its front."""
    for outline, color in zip(footprints(corners), colors, strict=True):
        front, centre = outline[:2].mean(axis=0), outline[:4].mean(axis=0)
        axes.plot(*outline.T, color=color, linewidth=1.3, linestyle=style, zorder=5)
        axes.plot(*np.stack([centre, front]).T, color=color, linewidth=1.0, zorder=5)
