"""Voxelization with numpy, as most people would write it: cells by `numpy.unique`, slots by sorting."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from heal.encoders.voxelize import VoxelGrid, Voxels
from heal.types import Float32, Int64


def voxelize(clouds: Sequence[Float32], grid: VoxelGrid) -> Voxels:
    """Compute the same as `heal.encoders.voxelize.voxelize`.

    Args:
        clouds: (N, 4) float32 each: x, y, z in metres in the agent's frame, intensity.
        grid: range and cells. Of each cloud its first `max_voxels` voxels are kept, of each voxel its first `max_points` points.
    """
    parts = [_voxels_of(cloud, grid) for cloud in clouds]
    coords = [np.concatenate([np.full((len(cells), 1), index), cells], axis=1) for index, (_, cells, _) in enumerate(parts)]
    return Voxels(
        points=torch.from_numpy(np.concatenate([points for points, _, _ in parts])),
        coords=torch.from_numpy(np.concatenate(coords)),
        num_points=torch.from_numpy(np.concatenate([counts for _, _, counts in parts])),
        batch_size=len(clouds),
    )


def _voxels_of(cloud: Float32, grid: VoxelGrid) -> tuple[Float32, Int64, Int64]:
    """Voxelize one cloud (N, 4); voxels are in the order of their first points.

    Returns:
        Points (V, P, 4) with zeros in empty slots, cells (V, 3) z, y, x, and numbers of points (V,).
    """
    shape = np.array(grid.shape_zyx)
    cells = np.floor((cloud[:, :3] - np.array(grid.range_m[:3], np.float32)) / np.array(grid.voxel_m, np.float32)).astype(np.int64)[
        :, ::-1
    ]
    inside = ((cells >= 0) & (cells < shape)).all(axis=1)
    cloud, cells = cloud[inside], cells[inside]
    flat = np.ravel_multi_index(tuple(cells.T), tuple(shape))
    _, first, of_point, counts = np.unique(flat, return_index=True, return_inverse=True, return_counts=True)
    by_first = np.argsort(first)
    voxel = np.argsort(by_first)[of_point]
    order = np.argsort(voxel, kind="stable")
    counts = counts[by_first]
    slot = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    voxel, cloud = voxel[order], cloud[order]
    kept = (voxel < grid.max_voxels) & (slot < grid.max_points)
    points = np.zeros((min(len(counts), grid.max_voxels), grid.max_points, 4), np.float32)
    points[voxel[kept], slot[kept]] = cloud[kept]
    return points, cells[np.sort(first)][: len(points)], np.minimum(counts, grid.max_points)[: len(points)]
