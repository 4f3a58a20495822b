"""Cameras: transforms of images, the places of pixels, and the maps of Lift-Splat."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from heal.encoders.images import (
    CameraBatch,
    ImageConfig,
    ImageTransform,
    evaluation_transform,
    normalize_colours,
    random_transform,
    transform_pixels,
)
from heal.encoders.lift_splat import LiftSplat, LiftSplatConfig
from heal.encoders.lift_splat_depth import DepthBinsConfig, bin_depths, depth_to_bins, sample_at_features
from heal.encoders.lift_splat_pool import frustum, frustum_in_agent
from heal.grid import BevGrid
from heal.opencood.lift_splat import SPACINGS, read_lift_splat
from heal.opencood.lift_splat_weights import reference_names
from tests.golden.fixture import Fixture, assert_close


def recorded_cameras(fixture: Fixture, prefix: str = "") -> CameraBatch:
    """Return the images of a fixture, in which all agents have the same number of images."""
    images = fixture.tensor(f"{prefix}imgs_f16").float()
    agents, cameras = images.shape[:2]

    def flat(name: str) -> Tensor:
        return fixture.tensor(f"{prefix}{name}").flatten(0, 1)

    pose = torch.eye(4).repeat(agents * cameras, 1, 1)
    pose[:, :3, :3], pose[:, :3, 3] = flat("rots"), flat("trans")
    moved = torch.cat([flat("post_rots")[:, :2, :2], flat("post_trans")[:, :2, None]], dim=2)
    agent = torch.arange(agents).repeat_interleave(cameras)
    rgbd = images.flatten(0, 1)
    return CameraBatch(rgbd[:, :3], agent, agents, flat("intrins"), pose, moved, rgbd[:, 3])


def check_lift_splat(fixture: Fixture) -> None:
    settings = read_lift_splat(fixture.config)
    grid = BevGrid((*settings.range_m[:2], -3.0, *settings.range_m[3:5], 1.0), settings.cell_m)
    model = LiftSplat(settings, grid).eval()
    names = reference_names(model.state_dict(), model.settings.trunk)
    fixture.load_weights(model, lambda name: names[name])
    cameras = recorded_cameras(fixture)
    points = frustum(settings.image.size, settings.downsample, bin_depths(settings.depth))
    assert_close(points, fixture.expected("frustum"), 2e-4)
    assert_close(frustum_in_agent(points, cameras)[0], fixture.expected("geometry_cam0"), 2e-4)
    with torch.no_grad():
        features, logits = model.camencode(cameras.images)
        merged = model.camencode.merged(cameras.images)
        maps, depth = model.forward_with_depth(cameras)
    assert_close(merged.mean(1), fixture.expected("image_feature_channel_mean"), 2e-4)
    assert_close(features, fixture.expected("lifted_sum_over_depth"), 2e-4)  # the shares of the depths sum to one
    assert_close(logits, fixture.expected("depth_logit"), 2e-4)
    assert_close(maps, fixture.expected("bev"), 2e-4)
    assert torch.equal(depth.logits, logits)
    check_recorded_bins(cameras, settings, depth.bins, fixture.expected("depth_gt_indices_eval"))


def check_recorded_bins(cameras: CameraBatch, settings: LiftSplatConfig, found: Tensor | None, expected: Any) -> None:
    """Check the depth bins against the reference's, except for depths that are too near, which the reference takes as far."""
    assert cameras.depth_m is not None and found is not None
    depth_m = sample_at_features(cameras.depth_m, settings.downsample)
    np.testing.assert_array_equal(depth_to_bins(depth_m, settings.depth, compat_heal=True), expected)
    near = depth_m < settings.depth.start_m
    np.testing.assert_array_equal(found[~near], expected[~near])


def check_depth_bins(fixture: Fixture) -> None:
    depth_m = fixture.tensor("depth_map")
    for mode, spacing in SPACINGS.items():
        settings = DepthBinsConfig(spacing=spacing)
        for when in ("eval", "train"):
            found = depth_to_bins(depth_m, settings, compat_heal=True)
            np.testing.assert_array_equal(found, fixture.expected(f"bin_{mode}/{when}_idx"))
        if f"depth_{mode}" in fixture.names("out/"):
            np.testing.assert_allclose(bin_depths(settings), fixture.expected(f"depth_{mode}"), rtol=1e-6)
    np.testing.assert_allclose(bin_depths(DepthBinsConfig()), fixture.expected("indices_to_depth_LID"), rtol=1e-5)
    dair = fixture.expected("depth_LID_dair")
    # The last bin ends at the end of the range: from its two ends the range and with it all bins follow.
    count = len(dair)
    end = dair[0] + (dair[-1] - dair[0]) * (count + 1) / (count - 1)
    found = bin_depths(DepthBinsConfig(start_m=float(dair[0]), end_m=float(end), count=count))
    np.testing.assert_allclose(found, dair, rtol=1e-5)


def check_camera_grids(fixture: Fixture) -> None:
    for case in sorted({name.split("/")[0] for name in fixture.names("out/") if name.startswith("dxbx_")}):
        size, first, count = (fixture.expected(f"{case}/{name}").astype(float) for name in ("dx", "bx", "nx"))
        low, high = first - size / 2, first + size * (count - 0.5)
        settings = LiftSplatConfig(
            range_m=tuple(np.round(np.concatenate([low, high]), 4).tolist()), cell_m=round(float(size[0]), 4)
        )
        grid = BevGrid(settings.range_m, settings.cell_m)
        assert (grid.nx, grid.ny) == (count[0], count[1])


def image_config(conf: dict[str, Any], flip: bool = False) -> ImageConfig:
    reference = {
        "grid_conf": {"xbound": [-8, 8, 1], "ybound": [-8, 8, 1], "zbound": [-1, 1, 2], "ddiscr": [1, 2, 3], "mode": "UD"},
        "data_aug_conf": {**conf, "rand_flip": flip},
        "camera_encoder": "Resnet101",
        "img_downsample": 8,
        "img_features": 1,
    }
    return read_lift_splat(reference).image


def check_image_transforms(fixture: Fixture) -> None:
    conf = fixture.config["conf"]
    image_px = (conf["H"], conf["W"])
    recorded = {
        "sample_aug_eval_full": evaluation_transform(image_px, image_config(conf)),
        "sample_aug_train_full": _random(image_px, image_config(conf), fixture.config["np_seed_train"]),
        "sample_aug_train_flip_full": _random(image_px, image_config(conf, flip=True), fixture.config["np_seed_flip"]),
    }
    for name, transform in recorded.items():
        found = [transform.scale, *transform.resized, *transform.crop, float(transform.flip), transform.rotate_deg]
        np.testing.assert_allclose(found, fixture.expected(name), rtol=1e-12)
    check_image(fixture, "img_eval", recorded["sample_aug_eval_full"])
    check_image(fixture, "img_train", recorded["sample_aug_train_full"])


def _random(image_px: tuple[int, int], settings: ImageConfig, seed: int) -> ImageTransform:
    """Draw a transform from numpy's old generator, which the reference uses."""
    return random_transform(image_px, settings, np.random.RandomState(seed))  # type: ignore[arg-type]


def check_image(fixture: Fixture, name: str, transform: ImageTransform) -> None:
    image = transform_pixels(fixture.input("img_u8"), transform)
    depth = transform_pixels(fixture.input("depth_u8"), transform)
    for found, part in ((image, "img_u8"), (depth, "depth_u8")):
        assert np.abs(found.astype(int) - fixture.expected(f"{name}/{part}").astype(int)).max() <= 1
    np.testing.assert_allclose(transform.affine()[:, :2], fixture.expected(f"{name}/post_rot"), atol=1e-5)
    np.testing.assert_allclose(transform.affine()[:, 2], fixture.expected(f"{name}/post_tran"), atol=1e-5)
    np.testing.assert_allclose(normalize_colours(image), fixture.expected(f"{name}/normalized"), atol=0.02)
    np.testing.assert_allclose(depth[None], fixture.expected(f"{name}/depth_m"), atol=1)
