"""The strip below a picture: what the agents' cameras see, each image in a frame of its agent's colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heal.tools.pictures.colors import agent_color
from heal.tools.pictures.picture import CameraAgent
from heal.types import UInt8

IN_A_ROW = 8
_GAP_INCHES = 0.06


def strip_inches(width_inches: float, cameras: Sequence[CameraAgent]) -> float:
    """Return the height in inches of the strip below a picture; 0 without cameras."""
    images = [image for agent in cameras for image in agent.images]
    return 0.0 if not images else _GAP_INCHES + _rows(len(images)) * (_GAP_INCHES + _image_inches(width_inches, images)[1])


def draw_strip(figure: Any, cameras: Sequence[CameraAgent], bottom_inches: float) -> None:
    """Draw the strip into a matplotlib figure, from `bottom_inches` above its lower edge; each agent's first image has its name."""
    width, height = figure.get_size_inches()
    named = [(image, agent, i == 0) for agent in cameras for i, image in enumerate(agent.images)]
    if not named:
        return
    image_width, image_height = _image_inches(width, [image for image, _, _ in named])
    for number, (image, agent, is_first) in enumerate(named):
        row, column = divmod(number, IN_A_ROW)
        x = _GAP_INCHES + column * (image_width + _GAP_INCHES)
        y = bottom_inches + _GAP_INCHES + (_rows(len(named)) - 1 - row) * (image_height + _GAP_INCHES)
        axes = figure.add_axes((x / width, y / height, image_width / width, image_height / height))
        axes.imshow(image, aspect="auto")
        axes.set(xticks=[], yticks=[])
        color = agent_color(agent.position)
        for spine in axes.spines.values():
            spine.set(color=color, linewidth=2.0)
        if is_first:
            box = {"boxstyle": "round,pad=0.2", "facecolor": "black", "edgecolor": "none", "alpha": 0.6}
            style: Any = {"color": color, "fontsize": 11, "weight": "bold", "va": "top", "bbox": box}
            axes.text(0.03, 0.93, agent.agent_id, transform=axes.transAxes, **style)


def _rows(images: int) -> int:
    return -(-images // IN_A_ROW)


def _image_inches(width_inches: float, images: Sequence[UInt8]) -> tuple[float, float]:
    """Return width and height in inches of each image: `IN_A_ROW` of them fill the width, in the shape of the tallest one."""
    width = (width_inches - _GAP_INCHES) / IN_A_ROW - _GAP_INCHES
    return width, width * max(image.shape[0] / image.shape[1] for image in images)
