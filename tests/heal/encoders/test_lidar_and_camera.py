"""LiDAR and cameras in one agent: its sensors, its one map of two, its coverage, and agents that lack a sensor."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from heal.agent_model import AgentConfig, AgentModel
from heal.config import ConfigError, build_config
from heal.encoders.covered import covered_blocks
from heal.encoders.lidar_and_camera import LidarAndCamera, LidarAndCameraConfig
from heal.encoders.lift_splat import LiftSplat
from heal.encoders.second import SecondConfig
from heal.encoders.table import DepthEncoder, PretrainedEncoder
from heal.errors import UserError
from heal.grid import block_shape
from heal.types import AgentFrame
from tests.heal.encoders.test_every_encoder import BOTH, SMALL, frame
from tests.heal.networks import GRID, LIFT_SPLAT


def made(drop: float = 0.0) -> LidarAndCamera:
    torch.manual_seed(0)
    return LidarAndCamera(replace(BOTH, drop=drop), GRID).eval()


def without(sensor: str) -> AgentFrame:
    return replace(frame(0), lidar=None) if sensor == "lidar" else replace(frame(0), cameras=())


def test_such_a_type_reads_both_sensors_and_learns_all_labels() -> None:
    settings = SMALL["both"]
    assert (settings.sensor.lidar, settings.sensor.cameras, settings.sensor.depth) == (True, True, False)
    assert settings.sensor_in_training == replace(settings.sensor, depth=True, labels="lidar")
    unsupervised = replace(settings, encoder=replace(BOTH, camera=replace(BOTH.camera, depth_supervision=False)))
    assert not unsupervised.sensor_in_training.depth
    assert settings.coverage(GRID) is None  # the LiDAR covers the range, whatever the cameras do


@torch.no_grad()
def test_the_map_is_the_convolved_pair_of_both_maps_on_the_grid() -> None:
    encoder, frames = made(), [frame(0), frame(1)]
    sweep, images = encoder.lidar.prepare(frames), encoder.camera.prepare(frames)
    camera = torch.zeros(2, 6, GRID.ny, GRID.nx)
    camera[:, :, 3:13, 6:26] = encoder.camera(images)  # 10 x 20 cells of 0.8 m in the middle of 16 x 32
    expected = encoder.fuse(torch.cat([encoder.lidar(sweep), camera], dim=1))
    assert camera.any()
    torch.testing.assert_close(encoder(encoder.prepare(frames)), expected)


def test_depth_is_predicted_and_supervised() -> None:
    encoder = made()
    assert isinstance(encoder, DepthEncoder) and isinstance(encoder, PretrainedEncoder)
    _, depth = encoder.forward_with_depth(encoder.prepare([frame(0)], np.random.default_rng(0)))
    assert depth is not None and depth.bins is not None and depth.logits.shape[1] == 8


def test_published_weights_are_loaded_into_the_part_that_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[LiftSplat] = []
    monkeypatch.setattr(LiftSplat, "load_pretrained", lambda encoder: loaded.append(encoder))
    encoder = made()
    encoder.load_pretrained()
    assert loaded == [encoder.camera]


def test_blocks_are_covered_that_either_sensor_sees() -> None:
    model = AgentModel(replace(SMALL["both"], cell_coverage=True), GRID)
    whole = frame(0, points=3)
    both, rays, images = (model.covered_blocks(part) for part in (whole, replace(whole, cameras=()), replace(whole, lidar=None)))
    assert both is not None and rays is not None and images is not None and both.shape == block_shape(GRID.ny, GRID.nx)
    np.testing.assert_array_equal(both, rays | images)
    np.testing.assert_array_equal(images, covered_blocks(BOTH.camera, whole, GRID))
    assert (rays & ~images).any() and (images & ~rays).any()


@pytest.mark.parametrize(("sensor", "message"), [("lidar", "has no LiDAR scan"), ("camera", "has no camera images")])
def test_a_type_that_has_not_learned_to_do_without_a_sensor_needs_it(sensor: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        made().prepare([frame(1), without(sensor)])
    with pytest.raises(UserError, match=message):  # data without a sensor are no data for a training of both
        made(drop=0.5).prepare([without(sensor)], np.random.default_rng(0))


@pytest.mark.parametrize("sensor", ["lidar", "camera"])
@torch.no_grad()
def test_a_missing_sensor_is_a_map_of_zeros_for_a_type_that_has_learned_so(sensor: str) -> None:
    encoder = made(drop=0.1)
    maps = encoder(encoder.prepare([frame(1), without(sensor)]))
    other = encoder.camera if sensor == "lidar" else encoder.lidar
    with_zeros = [torch.zeros(1, 16, GRID.ny, GRID.nx), torch.zeros(1, 6, GRID.ny, GRID.nx)]
    seen = other(other.prepare([frame(0)]))
    if sensor == "lidar":
        with_zeros[1][:, :, 3:13, 6:26] = seen
    else:
        with_zeros[0] = seen
    torch.testing.assert_close(maps[1:], encoder.fuse(torch.cat(with_zeros, dim=1)))
    torch.testing.assert_close(maps[:1], encoder(encoder.prepare([frame(1)])))
    alone = encoder(encoder.prepare([without(sensor)]))
    torch.testing.assert_close(alone, maps[1:])
    with pytest.raises(UserError, match="has no"):
        encoder.prepare([replace(without(sensor), lidar=None, cameras=())])


def test_one_of_the_two_sensors_is_dropped_in_training_as_often_as_asked() -> None:
    inputs = made(drop=0.5).prepare([frame(0, points=1)] * 400, np.random.default_rng(0))
    lidar, camera = set(inputs.lidar.agents.tolist()), set(inputs.camera.agents.tolist())
    assert lidar | camera == set(range(400)) and 160 < len(lidar & camera) < 240
    assert 60 < len(lidar - camera) < 140 and 60 < len(camera - lidar) < 140


def test_training_without_a_map_of_one_sensor_leaves_its_encoder_alone() -> None:
    encoder = made(drop=0.1).train()
    maps, depth = encoder.forward_with_depth(encoder.eval().prepare([without("camera")]))
    maps.square().sum().backward()
    assert depth is None and all(weight.grad is None for weight in encoder.camera.parameters())
    assert all(weight.grad is not None for weight in encoder.lidar.parameters())


def test_settings_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"square cells of one size .* \(0.8, 0.8\) m from second and \(1.0, 1.0\) m from lift_splat"
    ):
        LidarAndCamera(replace(BOTH, camera=LIFT_SPLAT), GRID)
    with pytest.raises(UserError, match="camera: expected an encoder of this sensor, got 'second'"):
        LidarAndCameraConfig(camera=SecondConfig())
    with pytest.raises(UserError, match="drop: expected a probability from 0 to below 1, got 1"):
        LidarAndCameraConfig(drop=1.0)
    encoder = {"kind": "both", "lidar": {"kind": "second"}, "camera": {"kind": "pixor"}}
    with pytest.raises(ConfigError, match=r"encoder\.both\.camera: expected one of the kinds lift_splat, got 'pixor'"):
        build_config(AgentConfig, {"encoder": encoder})
    with pytest.raises(ConfigError, match=r"encoder\.both\.lidar\.pixor\.slice: unknown key; did you mean 'slice_m'"):
        build_config(AgentConfig, {"encoder": {"kind": "both", "lidar": {"kind": "pixor", "slice": 0.2}}})
