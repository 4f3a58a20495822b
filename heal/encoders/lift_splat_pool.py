"""Pooling of pixels into a map seen from above: place each pixel at each depth in its agent's frame, and sum over every cell."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from heal.encoders.images import CameraBatch
from heal.grid import BevGrid


def frustum(size: tuple[int, int], downsample: int, depths_m: Tensor) -> Tensor:
    """Return the places of a camera's features at every depth: (D, h, w, 3) float32, pixel x, pixel y, depth in metres.

    Args:
        size: height and width of the image.
        downsample: pixels per feature along an edge; the first and the last feature are at the image's borders.
        depths_m: (D,) depths.
    """
    height, width = size
    rows, columns = height // downsample, width // downsample
    x = torch.linspace(0, width - 1, columns)
    y = torch.linspace(0, height - 1, rows)
    shape = (len(depths_m), rows, columns)
    return torch.stack([x.expand(shape), y[:, None].expand(shape), depths_m[:, None, None].expand(shape)], dim=-1)


def frustum_in_agent(points: Tensor, cameras: CameraBatch) -> Tensor:
    """Map the frustum (D, h, w, 3) into the agent's frame for every camera: (M, D, h, w, 3) x, y, z in metres."""
    flat = points.flatten(0, 2)[None].expand(len(cameras.images), -1, 3)
    linear, shift = cameras.shown_from_image[:, :, :2], cameras.shown_from_image[:, None, :, 2]
    pixel = (flat[..., :2] - shift) @ torch.inverse(linear).transpose(1, 2)
    depth = flat[..., 2:]
    rotation, translation = cameras.agent_SE3_camera[:, :3, :3], cameras.agent_SE3_camera[:, None, :3, 3]
    agent_from_ray = rotation @ torch.inverse(cameras.intrinsic)
    in_agent = torch.cat([pixel * depth, depth], dim=-1) @ agent_from_ray.transpose(1, 2) + translation
    return in_agent.reshape(len(in_agent), *points.shape)


def splat(features: Tensor, weights: Tensor, points: Tensor, cameras: CameraBatch, grid: BevGrid) -> Tensor:
    """Sum weight times feature over all pixels and depths that lie in a cell (Philion and Fidler, ECCV 2020, section 3.2).

    The volume of all features at all depths is never in memory: its entries, sorted by cell, are products of two small tensors.

    Args:
        features: (M, C, h, w), the feature of every pixel.
        weights: (M, D, h, w), the share of the pixel at every depth.
        points: (M, D, h, w, 3), the place of the pixel at every depth, in the agent's frame in metres.
        cameras: the batch of the M images.
        grid: the cells; a cell has the height of the grid's whole range.

    Returns:
        (agents, C, ny, nx) float32.
    """
    images, depths, rows, columns = weights.shape
    cell, inside = cells_of(points, grid)
    cells = cell[..., 1] * grid.nx + cell[..., 0] + cameras.agent[:, None, None, None] * (grid.ny * grid.nx)
    entry = inside.flatten().nonzero()[:, 0]
    in_cell, order = cells.flatten()[entry].sort(stable=True)
    entry = entry[order]
    per_image = rows * columns
    pixel = entry // (depths * per_image) * per_image + entry % per_image
    total = cameras.agents * grid.ny * grid.nx
    ends = torch.bincount(in_cell, minlength=total).cumsum(0)
    # A bag is a cell. Its entries are summed one after another, so no digit is lost to sums over other cells.
    bags = F.embedding_bag(
        pixel,
        features.float().permute(0, 2, 3, 1).reshape(images * per_image, -1),
        torch.cat([ends.new_zeros(1), ends[:-1]]),
        mode="sum",
        per_sample_weights=weights.float().flatten()[entry],
    )
    return bags.view(cameras.agents, grid.ny, grid.nx, -1).permute(0, 3, 1, 2)


def cells_of(points: Tensor, grid: BevGrid) -> tuple[Tensor, Tensor]:
    """Return the cell of every point (..., 3): column, row and layer (..., 3) int64, and (...) bool whether it is in the grid.

    Quotients are truncated, not rounded down, so a point up to one cell outside of the lower bounds falls into the first cell. The
    networks that HEAL released were trained with this.
    """
    size = points.new_tensor([grid.cell_m, grid.cell_m, grid.range_m[5] - grid.range_m[2]])
    counts = torch.tensor([grid.nx, grid.ny, 1], device=points.device)
    # In float32 and through the middle of the first cell, because the cell of a point on a border depends on this rounding.
    middle = points.new_tensor([grid.range_m[i] + step / 2 for i, step in enumerate([grid.cell_m, grid.cell_m, float(size[2])])])
    cell = ((points - (middle - size / 2)) / size).long()
    return cell, ((cell >= 0) & (cell < counts)).all(dim=-1)
