"""Draw the cameras of a scene: every image with the boxes in it, and its depth image beside it."""

from __future__ import annotations

from typing import Any

import numpy as np

from heal.tools.pictures.colors import FAINT_TEXT, TROUBLE, TRUTH
from heal.tools.showing.contents import ShownAgent, ShownCamera, ShownScene
from heal.tools.showing.projection import ProjectedBox, project_box
from heal.tools.showing.tiles import Tile
from heal.types import BoolMask, Float32, Float64, UInt8

# Depths from the first to the second are told apart by colour, in the same ratios by the same steps.
NEAREST_M, FARTHEST_M = 2.0, 120.0


def image_tiles(shown: ShownScene) -> list[Tile]:
    """Return the tiles of all images, each followed by its depth image if there is one."""
    tiles: list[Tile] = []
    for agent in shown.agents:
        for camera in agent.cameras:
            tiles.append(_image_tile(shown, agent, camera))
            if camera.view.depth_m is not None:
                tiles.append(_depth_tile(agent, camera.view.name, camera.view.depth_m))
    return tiles


def _image_tile(shown: ShownScene, agent: ShownAgent, camera: ShownCamera) -> Tile:
    height, width = camera.view.image.shape[:2]
    color = TROUBLE if camera.is_empty else agent.color

    def draw(axes: Any, width_px: int) -> None:
        _show_image(axes, camera.view.image, color)
        _draw_own_labels(axes, camera, agent)
        _draw_boxes(axes, camera, agent, shown.is_empty)

    return Tile(agent.camera_caption(camera), color, height / width, draw)


def _depth_tile(agent: ShownAgent, name: str, depth_m: Float32) -> Tile:
    image = depth_image(depth_m)
    title = f"{agent.agent_id} {name}: depth, red {NEAREST_M:g} m to blue {FARTHEST_M:g} m"
    return Tile(title, agent.color, depth_m.shape[0] / depth_m.shape[1], lambda axes, _: _show_image(axes, image, agent.color))


def depth_image(depth_m: Float32) -> UInt8:
    """Return depths (H, W) in metres as an RGB image: red near, blue far, black where there is none."""
    import matplotlib

    known = np.isfinite(depth_m) & (depth_m > 0)
    share = np.log(np.where(known, depth_m, NEAREST_M) / NEAREST_M) / np.log(FARTHEST_M / NEAREST_M)
    colors = matplotlib.colormaps["turbo_r"](np.clip(share, 0, 1), bytes=True)[..., :3]
    image: UInt8 = np.where(known[..., None], colors, 0).astype(np.uint8)
    return image


def _show_image(axes: Any, image: UInt8, color: str) -> None:
    height, width = image.shape[:2]
    # Pixel (0, 0) covers the coordinates from 0 to 1, as in a camera matrix.
    axes.imshow(image, extent=(0, width, height, 0), aspect="auto")
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=color, linewidth=1.5)


def _draw_boxes(axes: Any, camera: ShownCamera, agent: ShownAgent, is_empty: BoolMask) -> None:
    """Draw the boxes, the nearest last: those with points of the agent with filled near faces, the others with thin lines."""
    boxes = [(project_box(camera.view, box), number) for number, box in enumerate(agent.corners) if not agent.is_own[number]]
    for box, number in sorted(boxes, key=lambda each: -each[0].depth_m):
        if agent.hits[number] or (agent.points is None and not is_empty[number]):
            _draw_box(axes, box, TRUTH, filled=True)
        else:
            _draw_box(axes, box, TROUBLE if is_empty[number] else FAINT_TEXT, filled=bool(is_empty[number]))


def _draw_own_labels(axes: Any, camera: ShownCamera, agent: ShownAgent) -> None:
    for corners in agent.own_corners:
        for outline in project_box(camera.view, corners).near:
            axes.plot(*_closed(outline).T, color=agent.color, linewidth=0.9, linestyle="--", zorder=3)


def _draw_box(axes: Any, box: ProjectedBox, color: str, filled: bool) -> None:
    for outline in box.far if filled else ():
        axes.plot(*_closed(outline).T, color=color, linewidth=0.5, alpha=0.6, zorder=4)
    for outline in box.near:
        axes.plot(*_closed(outline).T, color=color, linewidth=1.2 if filled else 0.7, zorder=5)
        if filled:
            axes.fill(*outline.T, color=color, alpha=0.16, linewidth=0, zorder=5)


def _closed(outline: Float64) -> Float64:
    return np.concatenate([outline, outline[:1]])
