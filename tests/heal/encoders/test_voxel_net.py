"""VoxelNet: the paper's sizes, its layers as plain loops, and its convolutions as dense ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from heal.encoders.point_rows import PointLayer
from heal.encoders.voxel_net import MIDDLE, VoxelNet, VoxelNetConfig
from heal.encoders.voxelize import Voxels
from heal.errors import UserError
from heal.grid import BevGrid
from tests.heal.encoders.test_every_encoder import frame
from tests.heal.networks import GRID, with_random_norms

SETTINGS = VoxelNetConfig(voxel_m=(0.4, 0.4, 0.4), max_points=4, vfe_channels=(4, 8), middle_channels=(4, 5, 6))


def encoder_and_voxels() -> tuple[VoxelNet, Voxels]:
    torch.manual_seed(0)
    encoder = with_random_norms(VoxelNet(SETTINGS, GRID)).eval()
    assert isinstance(encoder, VoxelNet)
    return encoder, encoder.prepare([frame(0, 200), frame(1, 0), frame(2, 30)])


def test_the_paper_s_encoder() -> None:
    encoder = VoxelNet(VoxelNetConfig(), BevGrid((-35.2, -40.0, -3.0, 35.2, 40.0, 1.0), 0.4))
    assert encoder.shape_zyx == (10, 400, 352) and VoxelNetConfig().out_channels == 128
    # VFE-1(7, 32), VFE-2(32, 128), and a layer of 128; kernels (out, z, y, x, in).
    shapes = {name: tuple(weight.shape) for name, weight in encoder.named_parameters() if weight.ndim > 1}
    assert list(shapes.values()) == [
        (16, 7), (64, 32), (128, 128), (64, 3, 3, 3, 128), (64, 3, 3, 3, 64), (64, 3, 3, 3, 64)
    ]  # fmt: skip


def _layer(layer: PointLayer, x: Tensor) -> Tensor:
    norm = layer.norm
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None
    return F.relu((layer.linear.weight @ x - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias)


@torch.no_grad()
def test_the_features_of_a_voxel_equal_a_loop_over_its_points() -> None:
    encoder, voxels = encoder_and_voxels()
    found = encoder.voxel_features(voxels)
    *before, last = encoder.vfe.pfn_layers
    for index in range(len(voxels.coords)):
        points = voxels.points[index, : int(voxels.num_points[index])]
        mean = points[:, :3].mean(0)
        features = [torch.cat([point, point[:3] - mean]) for point in points]
        for layer in before:
            own = [_layer(layer, x) for x in features]
            highest = torch.stack(own).amax(0)
            features = [torch.cat([x, highest]) for x in own]
        expected = torch.stack([_layer(last, x) for x in features]).amax(0)
        torch.testing.assert_close(found[index], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_convolutions_equal_dense_ones_in_all_cells_that_voxels_reach() -> None:
    encoder, voxels = encoder_and_voxels()
    features = encoder.voxel_features(voxels)
    dense = torch.zeros(3, features.shape[1], *encoder.shape_zyx)
    reached = torch.zeros(3, 1, *encoder.shape_zyx)
    cloud, z, y, x = voxels.coords.unbind(1)
    dense[cloud, :, z, y, x], reached[cloud, :, z, y, x] = features, 1.0
    for (conv, norm), geometry in zip(encoder.middle, MIDDLE, strict=True):
        weight = conv.weight.permute(0, 4, 1, 2, 3)
        dense = F.conv3d(dense, weight, stride=geometry.stride, padding=geometry.padding)
        reached = F.max_pool3d(F.pad(reached, [pad for pad in reversed(geometry.padding) for _ in (0, 1)]), 3, geometry.stride)
        shape = (1, -1, 1, 1, 1)
        normed = (dense - norm.running_mean.view(shape)) / (norm.running_var + norm.eps).sqrt().view(shape)
        dense = F.relu(normed * norm.weight.view(shape) + norm.bias.view(shape)) * reached
    maps = encoder(voxels)
    assert 0.0 < float(reached.mean()) < 0.9 and not maps[1].any()
    torch.testing.assert_close(maps, dense.flatten(1, 2), rtol=1e-4, atol=1e-5)


def test_wrong_heights_and_widths_are_refused() -> None:
    with pytest.raises(UserError, match=r"the grid's 10 voxels in z become 2 cells, but height_cells is 3; set it to 2"):
        VoxelNet(replace(SETTINGS, height_cells=3), GRID)
    with pytest.raises(UserError, match=r"vfe_channels: expected at least one even number"):
        replace(SETTINGS, vfe_channels=(4, 7))


def test_training_keeps_fewer_voxels_and_any_of_a_voxel_s_points() -> None:
    encoder = VoxelNet(replace(SETTINGS, max_voxels_train=3, max_voxels=5), GRID).train()
    frames = [frame(0)]
    drawn = [encoder.prepare(frames, np.random.default_rng(seed)) for seed in (0, 1)]
    assert len(drawn[0].coords) == 3 and len(encoder.eval().prepare(frames).coords) == 5
    assert not torch.equal(drawn[0].points, drawn[1].points)
