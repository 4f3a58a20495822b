"""The networks give what the reference recorded, with the recorded weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from heal.agent_model import AgentConfig, AgentModel
from heal.anchors import AnchorConfig, make_anchors
from heal.backbone import Backbone, BackboneConfig
from heal.base_model import BaseConfig, BaseModel
from heal.collab import CollabBatch, CollabModel
from heal.decode import DecodeConfig, decode
from heal.encoders.point_pillars import PointPillars, PointPillarsConfig
from heal.fusion.pyramid import PyramidConfig, PyramidFusion
from heal.fusion.warp import normalized_affine, warp
from heal.grid import BevGrid
from heal.head import HeadOutput, Shrink
from heal.voxelize import VoxelGrid, Voxels, voxelize
from tests.golden.fixture import Fixture, assert_close, reference_key


def _voxels(fixture: Fixture, prefix: str) -> Voxels:
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


def _backbone(settings: dict[str, Any]) -> BackboneConfig:
    return BackboneConfig(
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
    voxels = _voxels(fixture, "inputs_m1")
    with torch.no_grad():
        assert_close(model.eval().pillar_features(voxels), fixture.expected("pillar_features"))
        assert_close(model(voxels), fixture.expected("spatial_features"))
        # The recorded training step began with the recipe's statistics, before they were calibrated.
        fixture.load_weights(model, stored_statistics=False)
        assert_close(model.train()(voxels).sum((2, 3)), fixture.expected("train_mode_pillar_sum_over_bev"))
    state = model.state_dict()
    for name in fixture.names("out/train_mode_running_stats/"):
        assert_close(state[name], fixture.expected(f"train_mode_running_stats/{name}"))


def check_backbone(fixture: Fixture) -> None:
    model = Backbone(_backbone(fixture.config), fixture.config["inplanes"])
    fixture.load_weights(model)
    with torch.no_grad():
        assert_close(model.eval()(fixture.tensor("x")), fixture.expected("y"))
        for i, level in enumerate(model.resnet(fixture.tensor("x"))):
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


def _agent_SE3_ego(fixture: Fixture, counts: list[int]) -> Tensor:
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
    poses = _agent_SE3_ego(fixture, counts)
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


def _model(fixture: Fixture) -> CollabModel:
    """The whole network of a fixture whose agents are all PointPillars."""
    args, post = fixture.config["model"]["args"], fixture.config["postprocess"]
    x0, y0, z0, x1, y1, z1 = args["lidar_range"]
    pyramid = _pyramid(args["fusion_backbone"])
    names = sorted({name for scene in fixture.config["agents"] for name in scene})
    voxel_m, stride = args[names[0]]["encoder_args"]["voxel_size"][0], post["anchor_args"]["feature_stride"]
    grid = BevGrid((x0, y0, z0, x1, y1, z1), voxel_m * stride)
    base = BaseConfig(
        grid=grid,
        in_channels=args[names[0]]["backbone_args"]["num_filters"][-1],
        pyramid=pyramid,
        shrink_channels=tuple(args["shrink_header"]["dim"]),
        shrink_sizes=tuple(args["shrink_header"]["kernal_size"]),
        shrink_strides=tuple(args["shrink_header"]["stride"]),
        direction_bins=args["dir_args"]["num_bins"],
        anchors=AnchorConfig(
            length_m=post["anchor_args"]["l"],
            width_m=post["anchor_args"]["w"],
            height_m=post["anchor_args"]["h"],
            yaws_deg=tuple(float(yaw) for yaw in post["anchor_args"]["r"]),
        ),
        decode=DecodeConfig(
            score_threshold=post["target_args"]["score_threshold"],
            nms_iou=post["nms_thresh"],
            direction_offset_rad=post["dir_args"]["dir_offset"],
            max_extent_m=6.0,
            z_limits_m=(-3.0, 1.0),
        ),
    )
    agents = {
        name: AgentModel(
            AgentConfig(encoder=_pillars(args[name]["encoder_args"]), backbone=_backbone(args[name]["backbone_args"])), grid
        )
        for name in names
    }
    return CollabModel(BaseModel(base), agents)


def check_whole_model(fixture: Fixture) -> None:
    model = _model(fixture).eval()
    fixture.load_weights(model, reference_key)
    types = tuple(name for scene in fixture.config["agents"] for name in scene)
    counts = tuple(fixture.input("record_len").tolist())
    inputs = {name: _voxels(fixture, f"inputs_{name}") for name in dict.fromkeys(types)}
    batch = CollabBatch(inputs, types, counts, _agent_SE3_ego(fixture, list(counts)))
    with torch.no_grad():
        output, features = model(batch), model.encode(batch)
    for name, found in (("cls", output.head.classification), ("reg", output.head.regression), ("dir", output.head.direction)):
        assert_close(found, fixture.expected(f"{name}_preds"), 1e-3, 1e-5)
    for i, logits in enumerate(output.occupancy):
        assert_close(logits, fixture.expected(f"occ/{i}"), 1e-3, 1e-5)
    for name in inputs:
        rows = torch.tensor([kind == name for kind in types])
        assert_close(features[rows].mean((2, 3)), fixture.expected(f"per_agent_feature/aligner_{name}"), 1e-3, 1e-5)
    offset = fixture.config["cls_offset_before_postprocess"]
    head = HeadOutput(output.head.classification[:1] - offset, output.head.regression[:1], output.head.direction[:1])
    anchors = make_anchors(model.base.config.grid, model.base.config.anchors, fixture.config["postprocess"]["anchor_args"]["vw"])
    found = decode(head, anchors, model.base.config.decode, fixture.config["postprocess"]["gt_range"])
    if "post_corners" not in fixture.names("out/"):
        assert len(found.scores) == 0
        return
    np.testing.assert_allclose(found.corners, fixture.expected("post_corners"), atol=1e-2)
    np.testing.assert_allclose(found.scores, fixture.expected("post_scores"), atol=1e-3)
