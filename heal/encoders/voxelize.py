"""Points to voxels: the first points of each cell of a grid; voxels are in the order of their first points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from heal.types import Float32, Int64


@dataclass(frozen=True)
class Voxels:
    """The occupied voxels of several clouds, cloud after cloud.

    Attributes:
        points: (V, P, 4) float32 x, y, z, intensity of the points in P slots; empty slots are zero.
        coords: (V, 4) int64 index of the cloud, and the cell's z, y, x.
        num_points: (V,) int64 number of the voxel's points, at most P.
        batch_size: number of clouds, with empty clouds counted.
    """

    points: Tensor
    coords: Tensor
    num_points: Tensor
    batch_size: int

    def to(self, device: torch.device | str) -> Voxels:
        """Return the voxels on a device."""
        return Voxels(self.points.to(device), self.coords.to(device), self.num_points.to(device), self.batch_size)


@dataclass(frozen=True)
class VoxelGrid:
    """A range divided into voxels, and limits on the voxels that are kept.

    Attributes:
        range_m: x_min, y_min, z_min, x_max, y_max, z_max; a point on an upper bound is outside.
        voxel_m: edges of a voxel in x, y, z.
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
    """Voxelize several clouds (N, 4): voxels in the order of their first point, points in the order of the cloud."""
    parts = [_assign_slots(cloud, grid) for cloud in clouds]
    ends = np.cumsum([len(part.counts) for part in parts], dtype=np.int64)
    voxels = int(ends[-1]) if parts else 0
    # The operating system zeroes the memory when it is first touched; most slots stay empty.
    slots = np.zeros((voxels * grid.max_points, 4), np.float32)
    coords, counts = np.empty((voxels, 4), np.int64), np.empty(voxels, np.int64)
    for index, (cloud, part, end) in enumerate(zip(clouds, parts, ends.tolist(), strict=True)):
        rows = slice(end - len(part.counts), end)
        _as_elements(slots)[part.slot + rows.start * grid.max_points] = _as_elements(cloud)[part.point]
        coords[rows, 0] = index
        coords[rows, 1:] = np.stack(np.unravel_index(part.cell, grid.shape_zyx), axis=1)
        counts[rows] = part.counts
    points = torch.from_numpy(slots.reshape(voxels, grid.max_points, 4))
    return Voxels(points, torch.from_numpy(coords), torch.from_numpy(counts), len(clouds))


def points_inside(cloud: Float32, grid: VoxelGrid) -> tuple[Int64, Int64]:
    """Return the indices (K,) of a cloud's points (N, 4) in range, and the flat index (K,) of each point's cell, with x fastest."""
    # In float32 like the points, because the cell of a point on a border depends on this rounding.
    lower, size = np.asarray(grid.range_m[:3], np.float32), np.asarray(grid.voxel_m, np.float32)
    nz, ny, nx = grid.shape_zyx
    # Each axis is contiguous in memory, so that every step below runs over neighbouring numbers.
    xyz = np.ascontiguousarray(cloud[:, :3].T)
    xyz = np.floor((xyz - lower[:, None]) / size[:, None])
    inside = np.flatnonzero(((xyz >= 0) & (xyz < np.array([[nx], [ny], [nz]], np.float32))).all(axis=0))
    x, y, z = xyz.take(inside, axis=1).astype(np.int64)
    return inside, (z * ny + y) * nx + x


@dataclass(frozen=True)
class _Slots:
    """The slots of the K kept points of a cloud, in V voxels.

    Attributes:
        point: (K,) index of each kept point in the cloud.
        slot: (K,) index of the point's slot among the slots of all voxels of the cloud.
        cell: (V,) flat index of each voxel's cell.
        counts: (V,) number of points of each voxel.
    """

    point: Int64
    slot: Int64
    cell: Int64
    counts: Int64


def _assign_slots(cloud: Float32, grid: VoxelGrid) -> _Slots:
    """Choose the kept points of a cloud (N, 4) and the slot of each."""
    inside, cell = points_inside(cloud, grid)
    cell, order = _stable_order(cell)
    starts = np.flatnonzero(np.diff(cell, prepend=-1))
    counts = np.minimum(np.diff(starts, append=len(order)), grid.max_points)
    rank = _ranks(order[starts], len(order))
    if len(rank) > grid.max_voxels:
        kept = np.flatnonzero(rank < grid.max_voxels)
        starts, counts, rank = starts[kept], counts[kept], rank[kept]
    # The kept points in the order of their cells; `before` is the number of kept points in the cells before a point's cell.
    before = np.cumsum(counts) - counts
    number = np.arange(counts.sum())
    point = inside[order[number + np.repeat(starts - before, counts)]]
    slot = number + np.repeat(rank * grid.max_points - before, counts)
    by_rank = np.empty_like(rank)
    by_rank[rank] = np.arange(len(rank))
    return _Slots(point, slot, cell[starts[by_rank]], counts[by_rank])


def _ranks(numbers: Int64, limit: int) -> Int64:
    """Return the rank (V,) of each of the distinct numbers (V,) below `limit`; counting is cheaper than sorting."""
    present = np.zeros(limit, np.int64)
    present[numbers] = 1
    ranks: Int64 = np.cumsum(present)[numbers] - 1
    return ranks


def _as_elements(points: Float32) -> npt.NDArray[np.complex128]:
    """View points (N, 4) as elements (N,) of 16 bytes, which numpy copies several times as fast as rows of four numbers."""
    return np.ascontiguousarray(points).view(np.complex128)[:, 0]


def _stable_order(cell: Int64) -> tuple[Int64, Int64]:
    """Return the cells (N,) in ascending order, and the points' indices (N,) in that order.

    The points of a cell stay in the cloud's order.
    """
    # Cell and index are packed into one number: numpy sorts numbers ten times as fast as it sorts indices.
    bits = len(cell).bit_length()
    both = np.sort((cell << bits) | np.arange(len(cell)))
    return both >> bits, both & ((1 << bits) - 1)
