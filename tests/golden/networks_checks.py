"""The networks give the reference's recorded outputs with the recorded weights."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from heal.encoders.point_pillars import PointPillars, PointPillarsConfig
from heal.encoders.voxelize import VoxelGrid, Voxels, voxelize
from heal.fusion.pyramid import PyramidConfig, PyramidFusion
from heal.fusion.warp import normalized_affine, warp
from heal.grid import BevGrid
from heal.layers.backbone import Backbone, BackboneConfig
from heal.layers.shrink import Shrink
from tests.golden.fixture import Fixture, assert_close


def recorded_voxels(fixture: Fixture, prefix: str) -> Voxels:
    points, coords, counts = (fixture.tensor(f"{prefix}/voxel_{name}") for name in ("features", "coords", "num_points"))
    return Voxels(points, coords.long(), counts.long(), int(coords[:, 0].max()) + 1)


def _grid(range_m: list[float], cell_m: float) -> BevGrid:
    x0, y0, z0, x1, y1, z1 = range_m
    return BevGrid((x0, y0, z0, x1, y1, z1), cell_m)


def _pillars(encoder: dict[str, Any]) -> PointPillarsConfig:
    vfe = encoder["pillar_vfe"]
    return PointPillarsConfig(
        pillar_m=tuple(encoder["voxel_size"][:2]),
        channels=tuple(vfe["num_filters"]),
        absolute_xyz=vfe["use_absolute_xyz"],
        distance=vfe["with_distance"],
    )


def _backbone(settings: dict[str, Any], kind: Literal["residual", "plain"] = "residual") -> BackboneConfig:
    return BackboneConfig(
        kind=kind,
        blocks=tuple(settings["layer_nums"]),
        strides=tuple(settings["layer_strides"]),
        channels=tuple(settings["num_filters"]),
        upsample_strides=tuple(settings.get("upsample_strides", ())),
        upsample_channels=tuple(settings.get("num_upsample_filter", ())),
    )


def _pyramid(settings: dict[str, Any]) -> PyramidConfig:
    return PyramidConfig(
        blocks=tuple(settings["layer_nums"]),
        strides=tuple(settings["layer_strides"]),
        channels=tuple(settings["num_filters"]),
        groups=32 if settings["resnext"] else 0,
        upsample_strides=tuple(settings["upsample_strides"]),
        upsample_channels=tuple(settings["num_upsample_filter"]),
    )


def check_voxelize(fixture: Fixture) -> None:
    for name, settings in fixture.config.items():
        args = settings["args"]
        size_x, size_y, size_z = args["voxel_size"]
        x0, y0, z0, x1, y1, z1 = settings["cav_lidar_range"]
        grid = VoxelGrid((x0, y0, z0, x1, y1, z1), (size_x, size_y, size_z), args["max_points_per_voxel"], args["max_voxel_test"])
        clouds = [fixture.input(f"{name}/{i}") for i in range(len(fixture.names(f"in/{name}/")))]
        found = voxelize(clouds, grid)
        np.testing.assert_array_equal(found.coords, fixture.expected(f"{name}/voxel_coords"))
        np.testing.assert_array_equal(found.num_points, fixture.expected(f"{name}/voxel_num_points"))
        np.testing.assert_array_equal(found.points, fixture.expected(f"{name}/voxel_features"))


def check_point_pillars(fixture: Fixture) -> None:
    settings = fixture.config
    model = PointPillars(_pillars(settings), _grid(settings["lidar_range"], settings["voxel_size"][0]))
    fixture.load_weights(model)
    voxels = recorded_voxels(fixture, "inputs_m1")
    with torch.no_grad():
        assert_close(model.eval().pillar_features(voxels), fixture.expected("pillar_features"))
        assert_close(model(voxels), fixture.expected("spatial_features"))
        # The recorded training step began with the recipe's statistics before their calibration.
        fixture.load_weights(model, stored_statistics=False)
        assert_close(model.train()(voxels).sum((2, 3)), fixture.expected("train_mode_pillar_sum_over_bev"))
    state = model.state_dict()
    for name in fixture.names("out/train_mode_running_stats/"):
        assert_close(state[name], fixture.expected(f"train_mode_running_stats/{name}"))


def check_backbone(fixture: Fixture) -> None:
    _check_stages(Backbone(_backbone(fixture.config), fixture.config["inplanes"]), fixture)


def check_plain_backbone(fixture: Fixture) -> None:
    _check_stages(Backbone(_backbone(fixture.config, "plain"), fixture.input("x").shape[1]), fixture)


def _check_stages(model: Backbone, fixture: Fixture) -> None:
    fixture.load_weights(model)
    with torch.no_grad():
        assert_close(model.eval()(fixture.tensor("x")), fixture.expected("y"))
        for i, level in enumerate(model.stages(fixture.tensor("x"))):
            assert_close(level, fixture.expected(f"multiscale/{i}"))


def check_shrink(fixture: Fixture) -> None:
    settings = fixture.config
    model = Shrink(settings["input_dim"], settings["dim"], settings["kernal_size"], settings["stride"])
    fixture.load_weights(model)
    assert_close(model(fixture.tensor("x")), fixture.expected("y"))


def check_warp(fixture: Fixture) -> None:
    for align_corners in fixture.config["align_corners"]:
        found = warp(fixture.tensor("x"), fixture.tensor("affine_f64"), align_corners)
        assert_close(found, fixture.expected(f"align_{str(align_corners).lower()}"))


def check_normalized_affine(fixture: Fixture) -> None:
    for case in sorted({name.split("/")[0] for name in fixture.names("in/")}):
        height, width, ratio, downsample = fixture.input(f"{case}/HWratio_ds")
        pairwise = torch.from_numpy(fixture.expected(f"{case}/pairwise_t_matrix"))[None]
        found = normalized_affine(pairwise, width * ratio * downsample, height * ratio * downsample)
        np.testing.assert_allclose(found, fixture.expected(f"{case}/affine"), rtol=1e-9, atol=1e-9)


def recorded_poses(fixture: Fixture, counts: list[int]) -> Tensor:
    """Element [0, j] of each scene's pairwise matrices maps ego coordinates into agent j's frame."""
    pairwise = fixture.tensor("pairwise_t_matrix")
    return torch.cat([pairwise[b, 0, :count] for b, count in enumerate(counts)])


def check_pyramid_fusion(fixture: Fixture) -> None:
    settings, x = fixture.config, fixture.tensor("x")
    length_y, length_x = settings["HW_m"]
    grid = _grid([-length_x / 2, -length_y / 2, -3, length_x / 2, length_y / 2, 1], length_x / x.shape[-1])
    model = PyramidFusion(_pyramid(settings), x.shape[1], grid)
    fixture.load_weights(model)
    counts = fixture.input("record_len").tolist()
    poses = recorded_poses(fixture, counts)
    crops = settings["crop_info"]
    ratios = {name: (crop[f"crop_ratio_W_{name}"], crop[f"crop_ratio_H_{name}"]) for name, crop in crops.items()}
    coverage = [ratios.get(name) for name in settings["agent_modality"]]
    with torch.no_grad():
        levels = model.eval().trunk(x)
        fused = model.fuse_levels(levels, poses, counts)
        masked = model.fuse_levels(levels, poses, counts, coverage)
        single = model.join(levels.maps)
        joined, joined_masked = model.join(fused), model.join(masked)
        model.train()
        trained = model.join(model.fuse_levels(model.trunk(x), poses, counts, coverage))
    for i, logits in enumerate(levels.occupancy):
        assert_close(logits, fixture.expected(f"occ_maps/{i}"))
        assert_close(fused[i], fixture.expected(f"fused_levels/{i}"))
    assert_close(joined, fixture.expected("fused"))
    assert_close(joined_masked, fixture.expected("fused_with_camera_crop_mask"))
    assert_close(single[: len(fixture.expected("single"))], fixture.expected("single"))
    expected = fixture.expected("train_mode_fused")
    assert_close(trained[:, :: trained.shape[1] // expected.shape[1]], expected)
