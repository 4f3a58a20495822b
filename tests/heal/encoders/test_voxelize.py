"""Voxels compared with a plain loop over the points."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heal.encoders.voxelize import VoxelGrid, Voxels, voxelize
from heal.types import Float32

RANGE_M = (-8.0, -4.0, -3.0, 8.0, 4.0, 1.0)


def point_by_point(clouds: list[Float32], grid: VoxelGrid) -> list[tuple[list[int], list[list[float]]]]:
    """Return each voxel's cloud and cell, and its points, from a plain loop."""
    lower, size = np.float32(grid.range_m[:3]), np.float32(grid.voxel_m)
    voxels: list[tuple[list[int], list[list[float]]]] = []
    for index, cloud in enumerate(clouds):
        found: dict[tuple[int, ...], list[list[float]]] = {}
        for point in cloud:
            x, y, z = np.floor((point[:3] - lower) / size)
            if all(0 <= at < limit for at, limit in zip((z, y, x), grid.shape_zyx, strict=True)):
                found.setdefault((int(z), int(y), int(x)), []).append(point.tolist())
        voxels += [([index, *cell], points[: grid.max_points]) for cell, points in list(found.items())[: grid.max_voxels]]
    return voxels


def as_lists(voxels: Voxels) -> list[tuple[list[int], list[list[float]]]]:
    """Return the same for the result of `voxelize`; check that empty slots are zero."""
    rows = zip(voxels.coords.tolist(), voxels.points.tolist(), voxels.num_points.tolist(), strict=True)
    assert not voxels.points[np.arange(voxels.points.shape[1]) >= voxels.num_points.numpy()[:, None]].any()
    return [(coords, points[:count]) for coords, points, count in rows]


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 60), min_size=1, max_size=4),
    st.sampled_from([(0.5, 0.5, 4.0), (4.0, 4.0, 4.0), (0.4, 0.4, 0.1), (16.0, 8.0, 4.0)]),
    st.integers(1, 6),
    st.integers(1, 30),
)
def test_voxels_are_those_of_a_loop_over_points(
    seed: int, lengths: list[int], voxel_m: tuple[float, float, float], max_points: int, max_voxels: int
) -> None:
    rng = np.random.default_rng(seed)
    clouds = [rng.uniform((-9, -5, -4, 0), (9, 5, 2, 1), (length, 4)).astype(np.float32) for length in lengths]
    grid = VoxelGrid(RANGE_M, voxel_m, max_points, max_voxels)
    assert as_lists(voxelize(clouds, grid)) == point_by_point(clouds, grid)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_points_that_are_not_finite_are_in_no_voxel(value: float) -> None:
    cloud = np.zeros((4, 4), np.float32)
    cloud[0, 0] = cloud[1, 1] = cloud[2, 2] = value
    grid = VoxelGrid(RANGE_M, (0.5, 0.5, 4.0), 8, 100)
    assert voxelize([cloud], grid).num_points.tolist() == [1]


def test_a_cloud_need_not_be_contiguous() -> None:
    cloud = np.random.default_rng(0).uniform(-3, 1, (200, 4)).astype(np.float32)
    grid = VoxelGrid(RANGE_M, (0.5, 0.5, 4.0), 8, 100)
    assert as_lists(voxelize([np.asfortranarray(cloud)], grid)) == as_lists(voxelize([cloud], grid))
    assert as_lists(voxelize([cloud[::2]], grid)) == as_lists(voxelize([cloud[::2].copy()], grid))


def test_no_cloud_gives_no_voxel() -> None:
    found = voxelize([], VoxelGrid(RANGE_M, (0.5, 0.5, 4.0), 8, 100))
    assert found.batch_size == 0 and found.points.shape == (0, 8, 4) and found.coords.shape == (0, 4)
