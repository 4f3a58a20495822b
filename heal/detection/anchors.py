"""Anchors: boxes of average size in every cell of the grid; the head predicts boxes as differences from them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from heal.config import config, later
from heal.grid import BevGrid


@config
class AnchorConfig:
    """Size, height and yaws of the anchors; every cell has one anchor per yaw.

    Attributes:
        length_m: along the anchor's heading.
        width_m: across the heading.
        height_m: from bottom to top.
        z_m: height of the centre above the agent's LiDAR.
        yaws_deg: yaw of each anchor of a cell.
        margin_m: distance of the outermost anchors from the range's border, between which the others are spread evenly; None for
            half a cell, which puts every anchor on the centre of its cell. HEAL has a quarter where a cell is four voxels wide.
    """

    length_m: float = 3.9
    width_m: float = 1.6
    height_m: float = 1.56
    z_m: float = -1.0
    yaws_deg: tuple[float, ...] = (0.0, 90.0)
    margin_m: float | None = later(None)

    @property
    def yaws(self) -> tuple[float, ...]:
        """The yaws in radians."""
        return tuple(math.radians(yaw) for yaw in self.yaws_deg)


def make_anchors(grid: BevGrid, anchor: AnchorConfig) -> Tensor:
    """Make the anchors of a grid, on the centres of its cells or with the settings' own margin.

    Args:
        grid: the feature grid of the head.
        anchor: sizes and yaws.

    Returns:
        (ny, nx, A, 7) float64: x, y, z, h, w, l, yaw in the ego's frame.
    """
    margin_m = grid.cell_m / 2 if anchor.margin_m is None else anchor.margin_m
    return spread_anchors(grid.range_m, (grid.ny, grid.nx), anchor, margin_m)


def spread_anchors(range_m: Sequence[float], shape: tuple[int, int], anchor: AnchorConfig, margin_m: float) -> Tensor:
    """Make anchors spread evenly over a range, the outermost ones `margin_m` away from its border.

    Args:
        range_m: x_min, y_min, z_min, x_max, y_max, z_max.
        shape: ny, nx: rows follow +y, columns follow +x.
        anchor: sizes and yaws.
        margin_m: distance of the outermost anchors from the border, metres. HEAL uses the edge of its finest voxels, which is half
            a cell only if a cell is two voxels wide.

    Returns:
        (ny, nx, A, 7) float64: x, y, z, h, w, l, yaw.
    """
    ny, nx = shape
    x = torch.linspace(range_m[0] + margin_m, range_m[3] - margin_m, nx, dtype=torch.float64)
    y = torch.linspace(range_m[1] + margin_m, range_m[4] - margin_m, ny, dtype=torch.float64)
    anchors = torch.empty(ny, nx, len(anchor.yaws), 7, dtype=torch.float64)
    anchors[..., 0] = x[None, :, None]
    anchors[..., 1] = y[:, None, None]
    anchors[..., 2:6] = anchors.new_tensor((anchor.z_m, anchor.height_m, anchor.width_m, anchor.length_m))
    anchors[..., 6] = anchors.new_tensor(anchor.yaws)
    return anchors
