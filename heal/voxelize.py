"""Points to voxels: the first points of each cell of a grid, cells in the order in which the points reach them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from heal.types import Float32, Int64


@dataclass(frozen=True)
class Voxels:
    """The occupied voxels of several clouds, cloud after cloud.

    Attributes:
        points: (V, P, 4) float32 x, y, z, intensity; slots beyond `num_points` are zero.
        coords: (V, 4) int64 cloud, z, y, x.
        num_points: (V,) int64, at most P.
        batch_size: number of clouds, also of empty ones.
    """

    points: Tensor
    coords: Tensor
    num_points: Tensor
    batch_size: int

    def to(self, device: torch.device | str) -> Voxels:
        """The same on another device."""
        return Voxels(self.points.to(device), self.coords.to(device), self.num_points.to(device), self.batch_size)


@dataclass(frozen=True)
class VoxelGrid:
    """Cells over a range.

    Attributes:
        range_m: x_min, y_min, z_min, x_max, y_max, z_max; the upper bounds are outside.
        voxel_m: edges in x, y, z.
        max_points: points kept of a voxel.
        max_voxels: voxels kept of a cloud.
    """

    range_m: tuple[float, float, float, float, float, float]
    voxel_m: tuple[float, float, float]
    max_points: int
    max_voxels: int

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Number of cells in z, y, x."""
        nx, ny, nz = (round((self.range_m[i + 3] - self.range_m[i]) / self.voxel_m[i]) for i in range(3))
        return nz, ny, nx


def voxelize(clouds: Sequence[Float32], grid: VoxelGrid) -> Voxels:
    """Voxels of several clouds (N, 4): voxels in the order of their first point, points in the order of the cloud."""
    parts = [_voxelize_one(cloud, grid, index) for index, cloud in enumerate(clouds)]
    points, coords, counts = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Voxels(torch.from_numpy(points), torch.from_numpy(coords), torch.from_numpy(counts), len(clouds))


def _voxelize_one(cloud: Float32, grid: VoxelGrid, index: int) -> tuple[Float32, Int64, Int64]:
    points, cell = _points_inside(cloud, grid)
    cell, order = _stable_order(cell)
    starts = np.flatnonzero(np.diff(cell, prepend=-1))
    counts = np.diff(starts, append=len(order))
    by_first_point = np.argsort(order[starts])[: grid.max_voxels]
    starts, counts = starts[by_first_point], np.minimum(counts[by_first_point], grid.max_points)
    voxel = np.repeat(np.arange(len(starts)), counts)
    slot = np.arange(len(voxel)) - np.repeat(np.cumsum(counts) - counts, counts)
    voxels = np.zeros((len(starts), grid.max_points, 4), np.float32)
    voxels[voxel, slot] = points[order[starts[voxel] + slot]]
    coords = np.stack([np.full(len(starts), index), *np.unravel_index(cell[starts], grid.shape_zyx)], axis=1)
    return voxels, coords.astype(np.int64), counts.astype(np.int64)


def _stable_order(cell: Int64) -> tuple[Int64, Int64]:
    """The cells in ascending order, and the points' indices in that order; the points of a cell stay in the cloud's order."""
    # Cell and index in one number: numpy sorts plain numbers ten times as fast as it sorts indices.
    points = max(len(cell), 1)
    both = np.sort(cell * points + np.arange(len(cell)))
    return both // points, both % points


def _points_inside(cloud: Float32, grid: VoxelGrid) -> tuple[Float32, Int64]:
    """The points in range (N, 4), and the flat index of each one's cell (N,)."""
    # In float32, as the sensors' points: which of two cells a point on their border falls into depends on it.
    lower, size = np.asarray(grid.range_m[:3], np.float32), np.asarray(grid.voxel_m, np.float32)
    nz, ny, nx = grid.shape_zyx
    x, y, z = (np.floor((cloud[:, i] - lower[i]) / size[i]) for i in range(3))
    inside = np.flatnonzero((x >= 0) & (x < nx) & (y >= 0) & (y < ny) & (z >= 0) & (z < nz))
    x, y, z = (axis[inside].astype(np.int64) for axis in (x, y, z))
    return cloud[inside], (z * ny + y) * nx + x
