"""Lift-Splat puts every pixel where its depth says, and its sums are exact."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from heal.config import ConfigError, build_config, to_plain
from heal.encoders.images import CameraBatch, ImageConfig, camera_batch
from heal.encoders.lift_splat import LiftSplat, LiftSplatConfig
from heal.encoders.lift_splat_depth import DepthBinsConfig, bin_depths
from heal.encoders.lift_splat_pool import frustum, frustum_in_agent, splat
from heal.encoders.lift_splat_trunk import ImageTrunk, PretrainedWeightsError
from heal.grid import BevGrid
from heal.opencood.lift_splat import read_lift_splat, write_lift_splat
from heal.opencood.lift_splat_weights import reference_names
from tests.heal.networks import LIFT_SPLAT
from tests.heal.views import camera_frame, camera_view

GRID = BevGrid((-8.0, -4.0, -3.0, 8.0, 4.0, 1.0), 1.0)
OWN = BevGrid((-8.0, -4.0, -10.0, 8.0, 4.0, 10.0), 1.0)


def cameras_of(*counts: int, settings: LiftSplatConfig = LIFT_SPLAT, rng: np.random.Generator | None = None) -> CameraBatch:
    """Return the images of agents with the given numbers of cameras, which look in all directions."""
    frames = [
        camera_frame(*(camera_view(f"camera{i}", yaw_deg=360 * i / count, depth_m=5.0) for i in range(count))) for count in counts
    ]
    return camera_batch(frames, settings.image, depth=True, rng=rng)


def random_lift(cameras: CameraBatch, grid: BevGrid) -> tuple[Tensor, Tensor, Tensor]:
    """Return features, weights and points; half of the points are outside of the grid."""
    torch.manual_seed(0)
    images, depths, rows, columns = len(cameras.images), 7, 4, 5
    features = torch.randn(images, 6, rows, columns, requires_grad=True)
    weights = torch.rand(images, depths, rows, columns, requires_grad=True)
    extent = torch.tensor([grid.range_m[3], grid.range_m[4], 12.0])
    return features, weights, (torch.rand(images, depths, rows, columns, 3) * 2 - 1) * extent * 1.2


def summed_one_by_one(features: Tensor, weights: Tensor, points: Tensor, cameras: CameraBatch, grid: BevGrid) -> Tensor:
    """Return the sums that `splat` computes, (agents, C, ny, nx) float64, from a plain loop."""
    maps = torch.zeros(cameras.agents, features.shape[1], grid.ny, grid.nx, dtype=torch.float64)
    for image, depth, row, column in np.ndindex(*weights.shape):
        x, y, z = (points[image, depth, row, column].double() - torch.tensor(grid.range_m[:3])).tolist()
        # A point up to a cell below the lower bounds falls into the first cell.
        j, i, k = int(x / grid.cell_m), int(y / grid.cell_m), int(z / (grid.range_m[5] - grid.range_m[2]))
        if j in range(grid.nx) and i in range(grid.ny) and k == 0:
            share = weights[image, depth, row, column].double() * features[image, :, row, column].double()
            maps[cameras.agent[image], :, i, j] += share
    return maps


def test_pooling_equals_a_loop_in_double_precision_also_in_its_gradients() -> None:
    cameras = cameras_of(2, 1)
    features, weights, points = random_lift(cameras, OWN)
    found, expected = (pool(features, weights, points, cameras, OWN) for pool in (splat, summed_one_by_one))
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
    factor = torch.randn_like(expected)
    ours = torch.autograd.grad((found * factor.float()).sum(), (features, weights))
    plain = torch.autograd.grad((expected * factor).sum(), (features, weights))
    for a, b in zip(ours, plain, strict=True):
        assert b.any()
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_a_sum_does_not_suffer_from_large_values_in_other_cells() -> None:
    # A running sum over all cells would lose the small value beside ten million.
    points = torch.tensor([[-7.5, -3.5, 0.0], [7.5, 3.5, 0.0]]).view(1, 2, 1, 1, 3)
    weights = torch.tensor([1e7, 1e-3]).view(1, 2, 1, 1)
    maps = splat(torch.ones(1, 1, 1, 1), weights, points, cameras_of(1), OWN)
    assert maps[0, 0, -1, -1].item() == pytest.approx(1e-3, rel=1e-6)


def test_cells_are_counted_from_the_lower_corner_and_cut_towards_zero() -> None:
    # x: -7.2 -> 0.8 -> 0; -8.9 -> -0.9 -> 0, kept; -9.1 -> -1.1 -> -1, dropped; 7.99 -> 15; 8.0 -> 16, dropped.
    points = torch.tensor([[-7.2, 0.5, 0], [-8.9, 0.5, 0], [-9.1, 0.5, 0], [7.99, -3.7, 0], [8.0, 0.5, 0], [0.5, 0.5, 10.5]])
    maps = splat(torch.ones(1, 1, 1, 1), torch.ones(1, 6, 1, 1), points.view(1, 6, 1, 1, 3), cameras_of(1), OWN)
    assert maps.nonzero().tolist() == [[0, 0, 0, 15], [0, 0, 4, 0]]
    assert maps[0, 0, 4, 0] == 2


def test_the_map_is_zero_if_all_points_are_outside_of_the_grid() -> None:
    cameras = cameras_of(1, 1)
    features, weights, points = random_lift(cameras, OWN)
    maps = splat(features, weights, points + 100, cameras, OWN)
    assert maps.shape == (2, 6, OWN.ny, OWN.nx) and not maps.any()
    maps.sum().backward()
    assert features.grad is not None and not features.grad.any()


def test_the_frustum_by_hand() -> None:
    points = frustum((16, 24), 8, torch.tensor([2.0, 5.0]))
    assert points.shape == (2, 2, 3, 3)
    assert points[1, 1].tolist() == [[0, 15, 5], [11.5, 15, 5], [23, 15, 5]]


def test_the_place_of_a_pixel_at_a_depth_by_hand() -> None:
    # Focal length 40, the axis through pixel (40, 30): pixel (60, 10) at depth 10 is 5 right of the axis and 5 above it.
    ahead = camera_view(position_m=(1.0, 2.0, 3.0))
    left = camera_view(yaw_deg=90, position_m=(1.0, 2.0, 3.0))
    cameras = camera_batch([camera_frame(ahead), camera_frame(left)], ImageConfig(size=(60, 80), bottom_cut=(0.0, 0.0)))
    points = frustum_in_agent(torch.tensor([60.0, 10.0, 10.0]).view(1, 1, 1, 3), cameras).view(2, 3)
    torch.testing.assert_close(points[0], torch.tensor([11.0, -3.0, 8.0]))  # to the right is -y
    torch.testing.assert_close(points[1], torch.tensor([6.0, 12.0, 8.0]))  # looking along +y, to the right is +x


def test_pixels_of_varied_images_have_the_places_of_the_plain_images_pixels() -> None:
    settings = ImageConfig(size=(32, 48), zoom=(1.0, 1.4), rotate_deg=(-20.0, 20.0), flip=True)
    views = [camera_view(f"camera{i}", yaw_deg=50 * i, position_m=(1.0, 0.0, 2.0)) for i in range(6)]
    plain = camera_batch([camera_frame(*views)], ImageConfig(size=(60, 80), bottom_cut=(0.0, 0.0)))
    varied = camera_batch([camera_frame(*views)], settings, rng=np.random.default_rng(3))
    pixel = torch.tensor([22.0, 41.0])
    expected = frustum_in_agent(torch.tensor([*pixel, 6.0]).view(1, 1, 1, 3), plain)
    for i, affine in enumerate(varied.shown_from_image):
        seen_at = affine[:, :2] @ pixel + affine[:, 2]
        found = frustum_in_agent(torch.tensor([*seen_at, 6.0]).view(1, 1, 1, 3), varied)
        torch.testing.assert_close(found[i], expected[i], atol=1e-4, rtol=1e-4)
    assert varied.shown_from_image[:, 0, 0].lt(0).any() and varied.shown_from_image[:, 0, 0].gt(0).any()


class _Certain(nn.Module):
    """A stand-in for the image network: one pixel with a feature, and one certain depth everywhere."""

    def __init__(self, row: int, column: int, depth_bin: int) -> None:
        super().__init__()
        self.at, self.depth_bin = (row, column), depth_bin

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        shape = (len(images), 1, images.shape[2] // 8, images.shape[3] // 8)
        features, logits = torch.zeros(shape), torch.zeros(shape).repeat(1, LIFT_SPLAT.depth.count, 1, 1)
        features[:, 0, self.at[0], self.at[1]] = 1.0
        logits[:, self.depth_bin] = 50.0
        return features, logits


@pytest.mark.parametrize(
    ("yaw_deg", "position_m", "depth_bin", "cell"),
    [(0, (0.5, 0, 0), 4, (3, 13)), (90, (0, 0.5, 0), 2, (7, 8)), (180, (-0.5, 0, 0), 4, (4, 2))],
)
def test_a_feature_lands_at_its_depth_in_the_direction_of_its_camera(
    yaw_deg: float, position_m: tuple[float, float, float], depth_bin: int, cell: tuple[int, int]
) -> None:
    # Images are resized to 0.6: focal length 24, axis through column 24. The fourth of six features is at pixel 47 * 3 / 5 = 28.2.
    # At a depth of 5 m, the feature is 0.9 m to the right of the axis: at (5.5, -0.9) or (-5.5, 0.9); at 3 m it is 0.5 m to the
    # right of the axis: at (0.5, 3.5).
    model = LiftSplat(LIFT_SPLAT, GRID)
    model.camencode = _Certain(2, 3, depth_bin)  # type: ignore[assignment]
    maps = model(model.prepare([camera_frame(camera_view(yaw_deg=yaw_deg, position_m=position_m))]))
    assert maps[0, 0].gt(0.5).nonzero().tolist() == [list(cell)]
    assert maps.sum().item() == pytest.approx(1.0, abs=1e-5)


def test_gradients_reach_every_weight() -> None:
    model = LiftSplat(LIFT_SPLAT, GRID).train()
    maps, depth = model.forward_with_depth(cameras_of(2, 1))
    assert maps.shape == (2, 6, OWN.ny, OWN.nx)
    (maps * torch.randn_like(maps)).sum().backward()
    assert depth.logits.shape == (3, 8, 4, 6)
    without = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []


def test_the_true_depth_is_taken_at_the_middle_of_every_feature() -> None:
    model = LiftSplat(LIFT_SPLAT, GRID).eval()
    cameras = cameras_of(1)
    assert cameras.depth_m is not None
    cameras.depth_m[:] = 0.0
    cameras.depth_m[:, 4, 12] = 5.5  # feature in row 0, column 1
    _, depth = model.forward_with_depth(cameras)
    assert depth.bins is not None and depth.bins.shape == depth.logits[:, 0].shape
    assert depth.bins[0, 0, :3].tolist() == [7, 4, 7]  # a depth without a measurement is in the last bin
    unsupervised = LiftSplat(replace(LIFT_SPLAT, depth_supervision=False), GRID)
    assert unsupervised.forward_with_depth(cameras)[1].bins is None


def test_mixed_precision_does_not_change_the_geometry() -> None:
    model = LiftSplat(LIFT_SPLAT, GRID).eval()
    cameras = cameras_of(2)
    plain = model(cameras)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(cameras)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, plain, atol=0.05 * plain.abs().max().item(), rtol=0.1)


def test_images_of_another_size_are_refused() -> None:
    model = LiftSplat(LIFT_SPLAT, GRID)
    wrong = cameras_of(1, settings=replace(LIFT_SPLAT, image=ImageConfig(size=(40, 48))))
    with pytest.raises(ValueError, match=r"expected images of shape \(any, 3, 32, 48\), got \(1, 3, 40, 48\)"):
        model(wrong)
    with pytest.raises(ValueError, match=r"multiples of downsample \(8\), got \(30, 48\); take \(32, 48\)"):
        replace(LIFT_SPLAT, image=ImageConfig(size=(30, 48)))


def test_a_trunk_must_exist_and_have_the_scales() -> None:
    with pytest.raises(ConfigError, match=r"encoder.trunk=mobilenet_v9"):
        ImageTrunk("mobilenet_v9", (8, 16), 0.0, 0.1, False)
    with pytest.raises(ConfigError, match=r"has maps at strides \[2, 4, 8, 16, 32\], but .* are \(8, 64\)"):
        ImageTrunk("test_efficientnet", (8, 64), 0.0, 0.1, False)


def test_layers_behind_the_coarsest_scale_are_removed() -> None:
    light = ImageTrunk("test_efficientnet", (8, 8), 0.0, 0.01, False)
    whole = ImageTrunk("test_efficientnet", (8, 8), 0.0, 0.01, True)
    sizes = [sum(weight.numel() for weight in trunk.parameters()) for trunk in (light, whole)]
    assert sizes[0] < sizes[1] / 3
    assert {module.momentum for module in light.modules() if isinstance(module, nn.BatchNorm2d)} == {0.01}
    (finest,) = light(torch.zeros(1, 3, 32, 48))
    assert finest.shape == (1, *light.channels, 4, 6)


def test_missing_weights_are_an_error_unless_they_are_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    def offline(name: str, pretrained: bool = False) -> nn.Module:
        raise OSError("no route to host")

    model = LiftSplat(LIFT_SPLAT, GRID)
    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(PretrainedWeightsError, match=r"test_efficientnet cannot be loaded \(OSError: no route to host\)"):
        model.load_pretrained()
    model.settings = replace(LIFT_SPLAT, pretrained=False)
    model.load_pretrained()


def test_published_weights_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    published = timm.create_model("test_efficientnet")
    model = LiftSplat(LIFT_SPLAT, GRID)
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: published)
    assert not torch.equal(model.camencode.trunk.net.conv_stem.weight, published.conv_stem.weight)
    model.load_pretrained()
    torch.testing.assert_close(model.camencode.trunk.net.conv_stem.weight, published.conv_stem.weight)


def test_settings_are_unchanged_after_a_file_and_after_heals_configuration() -> None:
    settings = LiftSplatConfig(cameras=("camera0", "camera1"), classifier=True)
    assert build_config(LiftSplatConfig, to_plain(settings)) == settings
    assert read_lift_splat(write_lift_splat(settings, (600, 800))) == settings
    with pytest.raises(ConfigError, match="HEAL has only"):
        write_lift_splat(LIFT_SPLAT, (600, 800))
    with pytest.raises(ConfigError, match="normalises images as imagenet, got signed"):
        write_lift_splat(replace(settings, image=replace(settings.image, colours="signed")), (600, 800))


def test_heals_parameter_names_count_all_blocks_in_a_row() -> None:
    model = LiftSplat(replace(LiftSplatConfig(), neck_channels=8, channels=4, classifier=True), GRID)
    names = reference_names(model.state_dict(), model.settings.trunk)
    assert len(set(names.values())) == len(names) == len(model.state_dict())
    trunk = "camencode.trunk.net."
    for ours, theirs in {
        "conv_stem.weight": "_conv_stem.weight",
        "bn2.running_var": "_bn1.running_var",
        "blocks.0.0.conv_pw.weight": "_blocks.0._project_conv.weight",  # the first block does not expand
        "blocks.1.0.conv_pw.weight": "_blocks.1._expand_conv.weight",
        "blocks.2.1.bn3.bias": "_blocks.4._bn2.bias",  # 1 and 2 blocks before
        "blocks.6.0.se.conv_reduce.weight": "_blocks.15._se_reduce.weight",
        "classifier.bias": "_fc.bias",
    }.items():
        assert names[trunk + ours] == "camencode.trunk." + theirs
    assert names["camencode.up2.conv.3.weight"] == "camencode.up2.conv.3.weight"
    with pytest.raises(ConfigError, match="HEAL has only tf_efficientnet_b0 and resnet101"):
        reference_names((), LIFT_SPLAT.trunk)


def test_bins_begin_where_the_formulas_say() -> None:
    linear = bin_depths(DepthBinsConfig())
    # (50 - 2) / (48 * 49) = 1 / 49 m, times 0, 2, 6, 12.
    torch.testing.assert_close(linear[:4], 2 + torch.tensor([0.0, 2.0, 6.0, 12.0]) / 49)
    assert bin_depths(LIFT_SPLAT.depth).tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    logarithmic = bin_depths(DepthBinsConfig(start_m=1.0, end_m=31.0, count=4, spacing="log"))
    assert logarithmic.tolist() == [1, 3, 7, 15]
