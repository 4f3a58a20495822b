"""SECOND: sizes, a small variant, empty clouds, and a map that moves with the points."""

import numpy as np
import pytest
import torch

from heal.agent_model import AgentConfig, AgentModel
from heal.config import ConfigError, build_config, to_plain
from heal.encoders.second import Second, SecondConfig
from heal.types import AgentFrame, LidarScan
from tests.heal.networks import GRID, SECOND

POSE = np.eye(4)


def frame(points: np.ndarray) -> AgentFrame:
    return AgentFrame("0", "vehicle", 0, POSE, POSE, LidarScan(points.astype(np.float32)))


def cloud(seed: int, points: int = 400) -> np.ndarray:
    """Return random points near the middle of the range, outside of the agent's own vehicle."""
    return np.random.default_rng(seed).uniform((3, -3, -2.5, 0), (6, 3, 0.5, 1), (points, 4))


def small_encoder() -> Second:
    torch.manual_seed(0)
    return Second(SECOND.encoder, GRID).eval()


def test_the_paper_s_encoder() -> None:
    encoder = Second(SecondConfig(), GRID)
    assert sum(weight.numel() for weight in encoder.parameters()) == 699_456
    assert SecondConfig().out_channels == 128 and encoder.cell_m == pytest.approx((0.8, 0.8))
    assert encoder.shape_zyx == (41, 128, 256)
    assert encoder.voxel_grid.max_voxels == 32000 and encoder.eval().voxel_grid.max_voxels == 70000


def test_a_small_variant_is_an_agent_type() -> None:
    assert build_config(AgentConfig, to_plain(SECOND)) == SECOND
    model = AgentModel(SECOND, GRID)
    maps = model(model.prepare([frame(cloud(0)), frame(cloud(1))]))
    assert maps.shape == (2, 8, 16, 32)
    maps.square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in model.parameters())


def test_a_kind_is_chosen_by_its_name() -> None:
    assert build_config(AgentConfig, {"encoder": {"kind": "second"}}).encoder == SecondConfig()
    with pytest.raises(ConfigError, match="voxel_m"):
        build_config(AgentConfig, {"encoder": {"kind": "second", "voxel_n": [0.1, 0.1, 0.1]}})


def test_the_error_for_a_wrong_height_names_the_right_one() -> None:
    with pytest.raises(ValueError, match="set it to 2"):
        Second(SecondConfig(height_cells=3), GRID)
    with pytest.raises(ValueError, match="at least one stage"):
        SecondConfig(channels=(16, 16))


def test_a_voxel_s_value_is_the_mean_of_its_points() -> None:
    points = np.array([[5.01, 1.01, 0.01, 0.2], [5.03, 1.05, 0.07, 0.4], [-5.0, 1.0, 0.0, 1.0]])
    encoder = small_encoder()
    means = encoder.sparse_means(encoder.prepare([frame(points)]))
    # Voxels of 0.2 m, counted from (-12.8, -6.4, -3), in the order of columns.
    assert means.sites.coords.tolist() == [[0, 15, 37, 39], [0, 15, 37, 89]]
    torch.testing.assert_close(means.features, torch.tensor([[-5.0, 1.0, 0.0, 1.0], [5.02, 1.03, 0.04, 0.3]]))


def test_agents_do_not_see_each_other_s_points() -> None:
    encoder, nothing = small_encoder(), np.zeros((0, 4))
    with torch.no_grad():
        alone = [encoder(encoder.prepare([frame(points)])) for points in (cloud(2), nothing, cloud(3))]
        together = encoder(encoder.prepare([frame(cloud(2)), frame(nothing), frame(cloud(3))]))
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-6)
    assert not together[1].any() and together[0].any()


def test_a_cloud_without_points_can_be_trained_on() -> None:
    encoder = small_encoder().train()
    maps = encoder(encoder.prepare([frame(np.zeros((0, 4)))]))
    maps.sum().backward()
    assert not maps.any()
    assert all(weight.grad is None or not weight.grad.any() for weight in encoder.parameters())


def test_points_moved_by_a_cell_move_the_map_by_a_cell() -> None:
    encoder = small_encoder()
    # The first layer reads coordinates; with zero weights for them, only the pattern of the voxels counts.
    with torch.no_grad():
        encoder.spconv_block.get_parameter("conv_input.0.weight")[..., :3] = 0
        centres = np.floor(cloud(4) / 0.2) * 0.2 + 0.1
        centres[:, 3] = 0.5
        still = encoder(encoder.prepare([frame(centres)]))
        moved = encoder(encoder.prepare([frame(centres + np.array([1.6, 0.8, 0, 0]))]))
    assert still.any()
    torch.testing.assert_close(moved[..., 1:, 2:], still[..., :-1, :-2], rtol=1e-4, atol=1e-6)
