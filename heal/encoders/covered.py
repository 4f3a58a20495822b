"""The part of the grid that an agent's sensors cover in one scan: an agent knows nothing of what no ray crossed and no camera saw.

The grid is divided into blocks (`heal.grid.block_shape`). In a block that is not covered an agent's foreground score is 0, so that
the agent has no weight there in the fusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from heal.encoders.coverage import RangedEncoder
from heal.grid import BLOCK_CELLS, BevGrid, Range
from heal.types import AgentFrame, BoolMask, CameraView, Float32, Float64, Int64

BEHIND_M = 4.8
"""How far behind the farthest return of a direction cells are still covered, a vehicle's length: returns lie on the near side."""

_DIRECTIONS = 360
_HEIGHTS = 5


@runtime_checkable
class CoveringEncoder(Protocol):
    """The settings of an encoder that tell themselves which blocks its agents' sensors cover; those of LiDAR encoders need not."""

    def covered_blocks(self, frame: AgentFrame, grid: BevGrid) -> BoolMask:
        """Return the blocks (rows, columns) of the grid that the sensors of an agent cover."""
        ...


def parts_of(settings: Any) -> tuple[Any, ...]:
    """Return the settings of the encoders of which an encoder is made, its own if it is not made of others."""
    parts: tuple[Any, ...] = getattr(settings, "parts", (settings,))
    return parts


def tells_blocks(settings: Any) -> bool:
    """Return whether `covered_blocks` knows what the agents of an encoder see."""
    return all(
        isinstance(part, CoveringEncoder) or (part.senses == "lidar" and not isinstance(part, RangedEncoder))
        for part in parts_of(settings)
    )


def covered_blocks(settings: Any, frame: AgentFrame, grid: BevGrid) -> BoolMask:
    """Return the blocks (rows, columns) of the grid that the sensors of an agent cover, any of them.

    Args:
        settings: of the agent's encoder, for which `tells_blocks` is true.
        frame: of the agent; a sensor that it lacks covers nothing.
        grid: of the maps.
    """
    points = np.zeros((0, 4), np.float32) if frame.lidar is None else frame.lidar.points
    covered: BoolMask = np.logical_or.reduce(
        [
            part.covered_blocks(frame, grid) if isinstance(part, CoveringEncoder) else lidar_blocks(points, grid)
            for part in parts_of(settings)
        ]
    )
    return covered


def lidar_blocks(points: Float32, grid: BevGrid) -> BoolMask:
    """Return the blocks (rows, columns) with any cell that a ray of a LiDAR crossed.

    In each of 360 directions, and in the directions beside it, these are the cells up to the farthest return. A scan without any
    return covers nothing.

    Args:
        points: (N, 3 or more) returns, x, y, ... in metres in the agent's frame.
        grid: of the maps.
    """
    reach_m = np.zeros(_DIRECTIONS)
    np.maximum.at(reach_m, _direction(points[:, 0], points[:, 1]), np.hypot(points[:, 0], points[:, 1]))
    reach_m = np.maximum(reach_m, np.maximum(np.roll(reach_m, 1), np.roll(reach_m, -1)))
    distance_m, direction = _polar_cells(grid)
    return _any_in_block(distance_m <= np.where(reach_m > 0, reach_m + BEHIND_M, 0.0)[direction], BLOCK_CELLS)


def camera_blocks(views: Sequence[CameraView], grid: BevGrid, range_m: Range, depth_m: float) -> BoolMask:
    """Return the blocks (rows, columns) of which a camera sees any quarter, at any height of the grid's range.

    Args:
        views: of the agent; only their calibrations are read.
        grid: of the maps.
        range_m: x_min, y_min, z_min, x_max, y_max, z_max of the encoder's map; beyond it nothing is covered.
        depth_m: the greatest depth at which the encoder places a pixel.
    """
    y, x = _centres(grid, BLOCK_CELLS // 2)
    heights = np.linspace(grid.range_m[2], grid.range_m[5], _HEIGHTS)
    places = np.stack(np.broadcast_arrays(x[None], y[None], heights[:, None, None]), axis=-1)  # (heights, 2 rows, 2 columns, 3)
    inside = (x >= range_m[0]) & (x <= range_m[3]) & (y >= range_m[1]) & (y <= range_m[4])
    covered: BoolMask = np.zeros(inside.shape, np.bool_)
    for view in views:
        np.logical_or(covered, _in_view(view, places, depth_m).any(axis=0), out=covered)
    return _any_in_block(covered & inside, 2)


def level_mask(blocks: Tensor, ny: int, nx: int, level_shape: tuple[int, int]) -> Tensor:
    """Return which cells of a scale are covered: those with any covered cell of the finest map in them.

    Args:
        blocks: (rows, columns) bool.
        ny: rows of the finest map.
        nx: columns of the finest map.
        level_shape: rows and columns of the scale.

    Returns:
        float32 of `level_shape`, 1 or 0.
    """
    cells = blocks.float().repeat_interleave(BLOCK_CELLS, 0).repeat_interleave(BLOCK_CELLS, 1)[:ny, :nx]
    size = -(-ny // level_shape[0]), -(-nx // level_shape[1])
    return F.max_pool2d(cells[None], size, size, ceil_mode=True)[0]


def _direction(x: Float64 | Float32, y: Float64 | Float32) -> Int64:
    """Return the number of the direction, 0 to 359, in which a place lies."""
    turns = np.arctan2(y, x) / (2 * np.pi) + 0.5
    return (turns * _DIRECTIONS).astype(np.int64) % _DIRECTIONS


@cache
def _polar_cells(grid: BevGrid) -> tuple[Float64, Int64]:
    """Return the distances of all cells (ny, nx) from the agent in metres, and the numbers of their directions."""
    y, x = _centres(grid, 1)
    return np.hypot(x, y), _direction(x, y)


def _centres(grid: BevGrid, cells: int) -> tuple[Float64, Float64]:
    """Return y (rows, 1) and x (1, columns) of the middles of squares of `cells` x `cells` cells, in metres."""
    edge_m = cells * grid.cell_m
    y = grid.range_m[1] + np.arange(0.5, -(-grid.ny // cells)) * edge_m
    x = grid.range_m[0] + np.arange(0.5, -(-grid.nx // cells)) * edge_m
    return y[:, None], x[None]


def _any_in_block(squares: BoolMask, per_block: int) -> BoolMask:
    """Return for each block (rows, columns) whether any of its `per_block` x `per_block` squares is set."""
    rows, columns = (-(-count // per_block) for count in squares.shape)
    filled = np.zeros((rows * per_block, columns * per_block), np.bool_)
    filled[: squares.shape[0], : squares.shape[1]] = squares
    blocks: BoolMask = np.asarray(filled.reshape(rows, per_block, columns, per_block).any(axis=(1, 3)))
    return blocks


def _in_view(view: CameraView, places: Float64, depth_m: float) -> BoolMask:
    """Return which places (..., 3) in the agent's frame are in the image of a camera, not behind it and not beyond `depth_m`."""
    rotation, position = view.agent_SE3_camera[:3, :3], view.agent_SE3_camera[:3, 3]
    in_camera = (places - position) @ rotation  # the inverse of a rotation is its transpose
    depth = in_camera[..., 2]
    ahead = (depth > 0) & (depth <= depth_m)
    pixel = in_camera @ view.intrinsic.T / np.where(ahead, depth, 1.0)[..., None]
    height, width = view.image.shape[:2]
    inside: BoolMask = ahead & (pixel[..., 0] >= 0) & (pixel[..., 0] <= width) & (pixel[..., 1] >= 0) & (pixel[..., 1] <= height)
    return inside
