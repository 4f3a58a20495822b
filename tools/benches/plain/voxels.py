"""Voxelization in its plain form: a loop over all points fills a dictionary of voxels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from heal.encoders.voxelize import VoxelGrid, Voxels
from heal.types import Float32

Cell = tuple[int, int, int]


def voxelize(clouds: Sequence[Float32], grid: VoxelGrid) -> Voxels:
    """Compute the same as `heal.encoders.voxelize.voxelize`.

    Args:
        clouds: (N, 4) float32 each: x, y, z in metres in the agent's frame, intensity.
        grid: range and cells. Of each cloud its first `max_voxels` voxels are kept, of each voxel its first `max_points` points.
    """
    coords: list[tuple[int, int, int, int]] = []
    members: list[list[Float32]] = []
    for index, cloud in enumerate(clouds):
        for cell, inside in _voxels_of(cloud, grid).items():
            coords.append((index, *cell))
            members.append(inside)
    points = np.zeros((len(coords), grid.max_points, 4), np.float32)
    for voxel, inside in enumerate(members):
        points[voxel, : len(inside)] = inside
    return Voxels(
        points=torch.from_numpy(points),
        coords=torch.tensor(coords, dtype=torch.int64).reshape(-1, 4),
        num_points=torch.tensor([len(inside) for inside in members], dtype=torch.int64),
        batch_size=len(clouds),
    )


def _voxels_of(cloud: Float32, grid: VoxelGrid) -> dict[Cell, list[Float32]]:
    """Collect the points (4,) of one cloud (N, 4) by their cell z, y, x. Cells are in the order of their first points."""
    nz, ny, nx = grid.shape_zyx
    lower, size = np.array(grid.range_m[:3], np.float32), np.array(grid.voxel_m, np.float32)
    voxels: dict[Cell, list[Float32]] = {}
    for point, (x, y, z) in zip(cloud, np.floor((cloud[:, :3] - lower) / size).tolist(), strict=True):
        if not (0 <= x < nx and 0 <= y < ny and 0 <= z < nz):
            continue
        cell = (int(z), int(y), int(x))
        if cell not in voxels:
            if len(voxels) == grid.max_voxels:
                continue
            voxels[cell] = []
        if len(voxels[cell]) < grid.max_points:
            voxels[cell].append(point)
    return voxels
