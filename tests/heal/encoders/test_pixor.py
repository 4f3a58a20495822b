"""PIXOR: the picture of a cloud, compared with a loop over its points, and the first block."""

import numpy as np
import pytest
import torch

from heal.encoders.pixor import Pixor, PixorConfig
from heal.errors import UserError
from heal.grid import BevGrid
from tests.heal.encoders.test_every_encoder import frame
from tests.heal.networks import GRID


def test_the_paper_s_encoder() -> None:
    # Slices of 0.1 m over 3.5 m and the reflectance: 36 channels of 800 x 700 cells.
    encoder = Pixor(PixorConfig(), BevGrid((-35.0, -40.0, -2.5, 35.0, 40.0, 1.0), 0.4))
    assert encoder.voxel_grid.shape_zyx == (35, 800, 700)
    assert [tuple(weight.shape) for weight in encoder.parameters() if weight.ndim == 4] == [(32, 36, 3, 3), (32, 32, 3, 3)]


def test_the_picture_equals_a_loop_over_the_points() -> None:
    encoder = Pixor(PixorConfig(cell_m=(0.8, 1.6), slice_m=0.5, channels=(4,)), GRID)
    frames = [frame(0, 400), frame(1, 0), frame(2, 50)]
    found = encoder.prepare(frames).dense(*encoder.voxel_grid.shape_zyx)
    expected = np.zeros((3, 9, 8, 32))
    intensities: dict[tuple[int, int, int], list[float]] = {}
    for i, part in enumerate(frames):
        assert part.lidar is not None
        for x, y, z, intensity in part.lidar.points.tolist():
            cell = (int((z + 3.0) / 0.5), int((y + 6.4) / 1.6), int((x + 12.8) / 0.8))
            if min(cell) >= 0 and z < 1.0 and y < 6.4 and x < 12.8:
                expected[(i, *cell)] = 1.0
                intensities.setdefault((i, *cell[1:]), []).append(intensity)
    for (i, row, column), values in intensities.items():
        expected[i, 8, row, column] = np.mean(values)
    assert max(map(len, intensities.values())) > 1
    torch.testing.assert_close(found, torch.from_numpy(expected).float(), rtol=1e-6, atol=1e-6)


def test_chance_has_no_part_in_the_picture() -> None:
    encoder = Pixor(PixorConfig(cell_m=(0.4, 0.4), slice_m=0.5), GRID)
    one, other = encoder.prepare([frame(0)]), encoder.prepare([frame(0)], np.random.default_rng(0))
    assert torch.equal(one.occupied, other.occupied) and torch.equal(one.reflectance, other.reflectance)


def test_slices_that_do_not_fill_the_height_are_refused() -> None:
    with pytest.raises(UserError, match=r"slice_m: expected a height that divides the range's 4 m, got 0.3"):
        Pixor(PixorConfig(slice_m=0.3), GRID)
    with pytest.raises(UserError, match=r"at least one convolution"):
        PixorConfig(channels=())
