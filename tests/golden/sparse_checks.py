"""The sparse encoder gives the reference's recorded outputs with the recorded weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from heal.encoders.second import Second, SecondConfig, SparseStages
from heal.grid import BevGrid
from heal.sparse.sites import SparseMap
from tests.golden.fixture import Fixture, assert_close
from tests.golden.networks_checks import recorded_voxels


def _settings(recorded: dict[str, Any]) -> SecondConfig:
    width = recorded["spconv"]["num_features_out"]
    return SecondConfig(
        voxel_m=tuple(recorded["voxel_size"]), map_channels=width, height_cells=recorded["map2bev"]["feature_num"] // width
    )


def _encoder(fixture: Fixture) -> Second:
    settings = _settings(fixture.config)
    x0, y0, z0, x1, y1, z1 = fixture.config["lidar_range"]
    encoder = Second(settings, BevGrid((x0, y0, z0, x1, y1, z1), settings.voxel_m[0] * settings.reduction))
    fixture.load_weights(encoder.eval())
    return encoder


def check_second(fixture: Fixture) -> None:
    encoder, voxels = _encoder(fixture), recorded_voxels(fixture, "inputs_m3")
    assert isinstance(encoder.spconv_block, SparseStages)
    with torch.no_grad():
        means = encoder.sparse_means(voxels)
        levels = encoder.spconv_block.levels(means)
        assert_close(encoder(voxels), fixture.expected("spatial_features"))
    by_column = np.lexsort([voxels.coords[:, axis] for axis in (1, 3, 2, 0)])
    assert_close(means.features, fixture.expected("voxel_mean")[by_column])
    for i, level in enumerate(levels[1:-1], start=1):
        _check_level(fixture, f"multi_scale_stats/x_conv{i}", level)
    height = levels[-2].sites.shape_zyx[0]
    assert_close(levels[-2].to_bev().unflatten(1, (-1, height)), fixture.expected(f"x_conv{len(levels) - 2}_dense"))


def _check_level(fixture: Fixture, name: str, level: SparseMap) -> None:
    features = level.features.double()
    assert_close(features.sum(0), fixture.expected(f"{name}/sum_per_channel"))
    assert_close(features.abs().sum(0), fixture.expected(f"{name}/abs_sum_per_channel"))
    assert features.any(1).sum() == fixture.expected(f"{name}/nonzero_sites")
