"""Every encoder of a LiDAR, and a LiDAR with cameras: empty sweeps, agents apart from each other, training, copies, and disk."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from heal.agent_model import ENCODERS, AgentConfig, AgentModel
from heal.alliance import TrainingRecord, load_alliance, save_agent, save_base
from heal.base_model import BaseModel
from heal.config import build_config, kinds_of, to_plain
from heal.encoders.lidar_and_camera import LidarAndCameraConfig
from heal.encoders.pixor import PixorConfig
from heal.encoders.point_transformer import PointTransformerConfig
from heal.encoders.voxel_net import VoxelNetConfig
from heal.layers.backbone import BackboneConfig
from heal.layers.inference import for_inference
from heal.types import AgentFrame, LidarScan
from tests.heal.networks import AGENT, BASE, GRID, LIFT_SPLAT, SECOND, with_random_norms
from tests.heal.views import camera_view

HALVING = BackboneConfig(blocks=(1,), strides=(2,), channels=(8,))
CAMERA = replace(LIFT_SPLAT, pretrained=False, range_m=(-8.0, -4.0, -10.0, 8.0, 4.0, 10.0), cell_m=0.8)
BOTH = LidarAndCameraConfig(lidar=SECOND.encoder, camera=CAMERA, channels=8)
SMALL = {
    "point_pillars": AGENT,
    "second": SECOND,
    "voxel_net": AgentConfig(
        encoder=VoxelNetConfig(voxel_m=(0.4, 0.4, 0.4), max_points=6, vfe_channels=(4, 8), middle_channels=(4, 4, 4)),
        backbone=HALVING,
    ),
    "pixor": AgentConfig(encoder=PixorConfig(cell_m=(0.4, 0.4), slice_m=0.5, channels=(4, 6)), backbone=HALVING),
    "point_transformer": AgentConfig(encoder=PointTransformerConfig(max_points=6, channels=8), backbone=HALVING),
    "both": AgentConfig(encoder=BOTH, backbone=replace(HALVING, strides=(1,))),
}
every = pytest.mark.parametrize("kind", SMALL)


def frame(seed: int, points: int = 300) -> AgentFrame:
    """Return a frame with a cloud that avoids the agent's own vehicle, and with one camera and its depths."""
    cloud = np.random.default_rng(seed).uniform((3, -6, -2.5, 0), (12, 6, 0.5, 1), (points, 4)).astype(np.float32)
    return AgentFrame("0", "vehicle", 0, np.eye(4), np.eye(4), LidarScan(cloud), (camera_view(depth_m=4.0 + seed),))


def model_of(kind: str) -> AgentModel:
    torch.manual_seed(0)
    model = with_random_norms(AgentModel(SMALL[kind], GRID))
    assert isinstance(model, AgentModel)
    return model.eval()


def test_no_encoder_is_left_out() -> None:
    assert {kind for settings in ENCODERS for kind in kinds_of(settings)} == {*SMALL, "lift_splat"}


@every
def test_settings_survive_a_file(kind: str) -> None:
    assert build_config(AgentConfig, to_plain(SMALL[kind])) == SMALL[kind]


@every
@torch.no_grad()
def test_agents_do_not_change_each_other_s_maps(kind: str) -> None:
    model, frames = model_of(kind), [frame(0), frame(1, points=0), frame(2, points=40)]
    alone = [model(model.prepare([part])) for part in frames]
    together = model(model.prepare(frames))
    assert together.shape == (3, 8, GRID.ny, GRID.nx) and together.isfinite().all()
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)
    assert (together[0] != together[2]).any()


@every
@torch.no_grad()
def test_the_fast_copy_computes_the_same(kind: str) -> None:
    model = model_of(kind)
    inputs = model.prepare([frame(0), frame(1)])
    torch.testing.assert_close(for_inference(model)(inputs), model(inputs), rtol=1e-4, atol=1e-4)


@every
@pytest.mark.parametrize("points", [300, 1, 0])
def test_training_in_half_precision_reaches_every_weight(kind: str, points: int) -> None:
    model = model_of(kind).train()
    inputs = model.prepare([frame(0, points), frame(1, points)], np.random.default_rng(0))
    with torch.autocast("cpu", torch.bfloat16):
        maps, _ = model.forward_with_depth(inputs)
    maps.float().square().sum().backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients.values())
    assert all(buffer.isfinite().all() for buffer in model.buffers())
    # The softmax of attention is the same for any bias of its logits, and a camera trunk has weights that nothing reads.
    silent = [name for name, gradient in gradients.items() if gradient is None or not gradient.any()]
    assert points < 300 or all(name.endswith("weigh.2.bias") or "camencode.trunk" in name for name in silent), silent


@every
def test_half_precision_changes_maps_by_its_rounding_alone(kind: str) -> None:
    model = model_of(kind)
    inputs = model.prepare([frame(3)])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rounded = model(inputs).float()
    with torch.no_grad():
        exact = model(inputs)
    assert float((rounded - exact).abs().max()) < 0.05 * float(exact.abs().max())


@every
def test_a_type_comes_back_from_disk_with_its_hash(kind: str, tmp_path: Path) -> None:
    model = model_of(kind)
    base_hash = save_base(tmp_path, BaseModel(BASE), TrainingRecord())
    for name in ("one", "two"):
        save_agent(tmp_path, name, model, base_hash, TrainingRecord())
    alliance = load_alliance(tmp_path)
    assert alliance.agent_card("one").hash == alliance.agent_card("two").hash and alliance.agent("one").config == SMALL[kind]
    for name, tensor in model.state_dict().items():
        assert torch.equal(alliance.agent("two").state_dict()[name], tensor), name
