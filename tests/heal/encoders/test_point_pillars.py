"""PointPillars computes equal slots once; the tests compare it with the plain form, which pads every pillar."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heal.encoders.point_pillars import PointPillars, PointPillarsConfig
from heal.encoders.voxelize import Voxels, voxelize
from heal.grid import BevGrid

GRID = BevGrid((-3.2, -1.6, -3.0, 3.2, 1.6, 1.0), 0.4)
SETTINGS = PointPillarsConfig(channels=(8, 6), max_points=5)


def _clouds(*sizes: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.uniform((-3.2, -1.6, -3, 0), (3.2, 1.6, 1, 1), (size, 4)).astype(np.float32) for size in sizes]


def _model(settings: PointPillarsConfig = SETTINGS) -> PointPillars:
    torch.manual_seed(0)
    model = PointPillars(settings, GRID)
    for layer in model.pillar_vfe.pfn_layers:
        nn.init.normal_(layer.norm.bias)
        nn.init.uniform_(layer.norm.weight, 0.5, 1.5)
        layer.norm.running_var.uniform_(0.5, 1.5)
    return model


def _padded(model: PointPillars, voxels: Voxels) -> Tensor:
    """Return the pillars' vectors (V, C) in the plain form, with `nn.BatchNorm1d` over all V * P slots."""
    pillars, slots = voxels.points.shape[:2]
    xyz = voxels.points[..., :3]
    mean = xyz.sum(1, keepdim=True) / voxels.num_points[:, None, None]
    centre = voxels.coords[:, [3, 2, 1]] * torch.tensor([0.4, 0.4, 4.0]) + torch.tensor([-3.0, -1.4, -1.0])
    x = torch.cat([voxels.points, xyz - mean, xyz - centre[:, None]], dim=2)
    x = x * (torch.arange(slots) < voxels.num_points[:, None])[..., None]
    for i, layer in enumerate(model.pillar_vfe.pfn_layers):
        if i:
            x = torch.cat([x, x.amax(1, keepdim=True).expand_as(x)], dim=2)
        x = F.relu(layer.norm(layer.linear(x).flatten(0, 1))).unflatten(0, (pillars, slots))
    return x.amax(1)


@pytest.mark.parametrize("training", [False, True])
def test_equals_the_padded_form_in_values_gradients_and_statistics(training: bool) -> None:
    ours, plain = _model().train(training), _model().train(training)
    voxels = voxelize(_clouds(300, 40), ours.voxel_grid)
    assert (voxels.num_points == 5).any() and (voxels.num_points < 5).any()
    found, expected = ours.pillar_features(voxels), _padded(plain, voxels)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    for output in (found, expected):
        output.square().sum().backward()
    torch.testing.assert_close(dict(ours.state_dict()), dict(plain.state_dict()), atol=1e-5, rtol=1e-4)
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-3, rtol=1e-3)


def test_a_pillar_is_at_the_place_of_its_points() -> None:
    cloud = np.array([(-3.1, -1.5, 0, 1), (1.0, 0.3, 0, 1)], np.float32)
    model = _model().eval()
    occupied = model(voxelize([cloud], model.voxel_grid))[0].any(0).nonzero().tolist()
    # Column (1.0 + 3.2) / 0.4 = 10, row (0.3 + 1.6) / 0.4 = 4.
    assert occupied == [[0, 0], [4, 10]]


@pytest.mark.parametrize("training", [False, True])
def test_clouds_without_points_give_empty_maps(training: bool) -> None:
    model = _model().train(training)
    maps = model(voxelize(_clouds(0, 50, 0), model.voxel_grid))
    assert maps.shape == (3, 6, GRID.ny, GRID.nx)
    assert maps[1].any() and not maps[0].any() and not maps[2].any()
    nothing = model(voxelize(_clouds(0), model.voxel_grid))
    assert nothing.shape == (1, 6, GRID.ny, GRID.nx) and not nothing.any()
    nothing.sum().backward()
    assert all(buffer.isfinite().all() for buffer in model.buffers())


def test_mixed_precision_changes_no_feature() -> None:
    model = _model().train()
    voxels = voxelize(_clouds(300), model.voxel_grid)
    plain = model(voxels)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model(voxels), plain)


def test_training_keeps_fewer_pillars() -> None:
    model = _model(PointPillarsConfig(max_pillars_train=7, max_pillars=9))
    assert len(voxelize(_clouds(100), model.train().voxel_grid).coords) == 7
    assert len(voxelize(_clouds(100), model.eval().voxel_grid).coords) == 9
