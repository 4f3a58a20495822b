"""The marks of pictures in bird's-eye view: clouds as an image, rings of distance, arrows along headings, labels, footprints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from heal.tools.pictures.colors import BACKGROUND, FAINT_TEXT, rgb_floats
from heal.types import Float64, UInt8


def rasterize_clouds(clouds: Sequence[tuple[str, Float64]], range_m: Sequence[float], width_px: int) -> UInt8:
    """Return an RGB image (H, W, 3) of all points, first row at y_min; a pixel is brighter the more and the higher its points.

    Args:
        clouds: the colour "#rrggbb" of each cloud, and its points (N, 3) in metres in the picture's frame.
        range_m: x_min, y_min, z_min, x_max, y_max, z_max of the picture; heights are not cut.
        width_px: width of the image.
    """
    x_min, y_min, _, x_max, y_max, _ = range_m
    height_px = round(width_px * aspect(range_m))
    density = np.zeros((height_px * width_px, 1))
    tint = np.zeros((height_px * width_px, 3))
    for color, xyz in clouds:
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


def aspect(range_m: Sequence[float]) -> float:
    """Return the extent of a range in y divided by its extent in x."""
    return float((range_m[4] - range_m[1]) / (range_m[3] - range_m[0]))


def draw_ground(axes: Any, clouds: Sequence[tuple[str, Float64]], range_m: Sequence[float], width_px: int) -> None:
    """Set the limits of matplotlib axes that are `width_px` wide to a range, and draw clouds and rings of distance in them."""
    x_min, y_min, _, x_max, y_max, _ = range_m
    axes.set(xlim=(x_min, x_max), ylim=(y_min, y_max), aspect="equal")
    axes.axis("off")
    image = rasterize_clouds(clouds, range_m, round(0.75 * width_px))
    axes.imshow(image, extent=(x_min, x_max, y_min, y_max), origin="lower", interpolation="bilinear", zorder=0)
    _draw_rings(axes, range_m)


def _draw_rings(axes: Any, range_m: Sequence[float]) -> None:
    """Draw circles around the origin every 20 m, with their radius."""
    from matplotlib.patches import Circle

    x_min, y_min, _, x_max, y_max, _ = range_m
    for radius_m in range(20, int(max(-x_min, -y_min, x_max, y_max)), 20):
        axes.add_patch(Circle((0, 0), radius_m, fill=False, color=FAINT_TEXT, alpha=0.22, linewidth=0.8, linestyle=(0, (4, 6))))
        if radius_m < min(-y_min, y_max):
            axes.text(0, -radius_m, f"{radius_m} m", color=FAINT_TEXT, fontsize=9, ha="center", va="center", alpha=0.8)


def draw_arrow(axes: Any, frame_SE3_agent: Float64, size_m: float, color: str) -> None:
    """Draw an arrow along the heading of an agent, whose pose (4, 4) is in the picture's frame."""
    heading = frame_SE3_agent[:2, 0]
    side = np.array([-heading[1], heading[0]])
    arrow = np.array([heading, -0.7 * heading + 0.62 * side, -0.35 * heading, -0.7 * heading - 0.62 * side]) * size_m
    axes.fill(*(arrow + frame_SE3_agent[:2, 3]).T, facecolor=color, edgecolor="white", linewidth=1.2, zorder=8)


def write_label(axes: Any, x: float, y: float, text: str, color: str, size: float, weight: str = "normal") -> None:
    """Write text on a dark box, so that it is readable over points; text outside the axes is clipped."""
    box = {"boxstyle": "round,pad=0.22", "facecolor": BACKGROUND, "edgecolor": "none", "alpha": 0.78}
    axes.text(x, y, text, color=color, fontsize=size, weight=weight, ha="center", va="center", bbox=box, zorder=9, clip_on=True)


def figure_image(figure: Any) -> UInt8:
    """Draw a matplotlib figure, and return it as an RGB image (H, W, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def footprints(corners: Float64) -> Float64:
    """Return closed footprints (N, 5, 2), front edge first, of boxes with corners (N, 8, 3)."""
    outlines: Float64 = corners[:, [0, 1, 2, 3, 0], :2]
    return outlines
