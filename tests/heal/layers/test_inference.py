"""Fast copies of networks for inference: the same numbers, no batch norm of a map, and an unchanged original."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from heal.agent_model import AgentModel
from heal.alliance import load_alliance
from heal.base_model import BaseConfig, BaseModel
from heal.encoders.lift_splat import LiftSplat
from heal.layers.inference import for_inference
from heal.layers.winograd import WinogradConv2d
from heal.tools.shared.paths import CONFIGS
from heal.tools.shared.setting_files import read_agent_type
from tests.heal.networks import BASE, small_model, small_scene, with_random_norms

TYPES = sorted((CONFIGS / "agents").glob("*.yaml"))
DEMO = CONFIGS / "demo" / "alliance"


def dense_parts(model: AgentModel, channels: int) -> list[Tensor]:
    """Return the outputs of a type's convolutions for noise: backbone and aligner, and the image network if there is one."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        found = [model.aligner(model.backbone(torch.randn(1, channels, 32, 48, generator=generator)))]
        if isinstance(model.encoder, LiftSplat):
            found += model.encoder.camencode(torch.randn(2, 3, 64, 96, generator=generator))
    return found


@pytest.mark.parametrize("path", TYPES, ids=lambda path: path.stem)
def test_shipped_types_compute_the_same(path: Path) -> None:
    config = read_agent_type(path.stem)
    model = AgentModel(config, BaseConfig().grid)
    with_random_norms(model).eval()
    fast = for_inference(model)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in fast.modules())
    width = config.encoder.out_channels
    for one, other in zip(dense_parts(model, width), dense_parts(fast, width), strict=True):
        torch.testing.assert_close(other, one, atol=2e-5 * float(one.abs().max()), rtol=0)


def test_a_base_computes_the_same_and_is_left_unchanged() -> None:
    base = BaseModel(BASE)
    with_random_norms(base).eval()
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    fast, features = for_inference(base), torch.randn(2, 8, BASE.grid.ny, BASE.grid.nx)
    poses = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    poses[1, 0, 3] = 3.0
    with torch.no_grad():
        one, other = base(features, poses, [2]).head, fast(features, poses, [2]).head
    torch.testing.assert_close(other.regression, one.regression, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(other.classification, one.classification, atol=1e-5, rtol=1e-4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())
    assert not any(parameter.requires_grad for parameter in fast.parameters())


def test_a_whole_model_in_training_is_copied_in_eval_mode() -> None:
    model = small_model()
    model.train()
    fast = for_inference(model)
    assert model.training and not fast.training
    model.eval()
    scene = small_scene(seed=3)
    batch = model.prepare([scene], [{"0": "m1", "1": "m1"}])
    with torch.no_grad():
        torch.testing.assert_close(fast(batch).head.regression, model(batch).head.regression, atol=1e-5, rtol=1e-4)


def test_an_alliance_for_inference_is_the_same_alliance() -> None:
    plain = load_alliance(DEMO)
    fast = plain.for_inference()
    assert fast.base_hash == plain.base_hash and fast.agent_names == plain.agent_names and fast.grid == plain.grid
    for network in (fast.base, fast.agent("m1")):
        assert not any(isinstance(part, nn.BatchNorm2d) for part in network.modules())
    assert any(isinstance(part, nn.BatchNorm2d) for part in plain.agent("m1").modules())


def test_wide_convolutions_are_replaced_with_the_relu_behind_them() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(256, 256, 3, padding=1), nn.BatchNorm2d(256), nn.ReLU(), nn.Conv2d(256, 8, 3, padding=1)).eval()
    fast, maps = for_inference(plain), torch.randn(1, 256, 9, 13)
    assert isinstance(fast[0], WinogradConv2d) and fast[0].relu and isinstance(fast[2], nn.Identity) and type(fast[3]) is nn.Conv2d
    with torch.no_grad():
        torch.testing.assert_close(fast(maps), plain(maps), atol=2e-5, rtol=1e-4)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(fast(maps).float(), plain(maps).float(), atol=0.05, rtol=0.05)
    with_gradient = maps.clone().requires_grad_()
    fast(with_gradient).sum().backward()
    assert with_gradient.grad is not None and with_gradient.grad.abs().max() > 0
