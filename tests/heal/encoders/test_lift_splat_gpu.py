"""Lift-Splat on an NVIDIA GPU: the same maps as on the CPU, and training steps that stay finite."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from heal.encoders.images import CameraBatch, ImageConfig, camera_batch
from heal.encoders.lift_splat import LiftSplat, LiftSplatConfig
from heal.grid import BevGrid
from tests.heal.views import camera_frame, camera_view

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here")]

GRID = BevGrid((-51.2, -51.2, -3.0, 51.2, 51.2, 1.0), 0.8)
EFFICIENTNET = LiftSplatConfig(image=ImageConfig(size=(128, 192)))
RESNET = replace(EFFICIENTNET, trunk="resnet101", trunk_stride=8, drop_path=0.0, norm_momentum=0.1)


def cameras(settings: LiftSplatConfig) -> CameraBatch:
    views = [camera_view(f"camera{i}", (150, 200), yaw_deg=90 * i, depth_m=10.0, focal_px=100.0) for i in range(4)]
    return camera_batch([camera_frame(*views), camera_frame(views[0])], settings.image, depth=True)


@pytest.mark.parametrize("settings", [EFFICIENTNET, RESNET], ids=["efficientnet", "resnet"])
def test_maps_equal_those_of_the_cpu(settings: LiftSplatConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.manual_seed(0)
    model, inputs = LiftSplat(settings, GRID).eval(), cameras(settings)
    with torch.no_grad():
        expected, expected_depth = model(inputs), model.forward_with_depth(inputs)[1]
        found, depth = model.cuda().forward_with_depth(inputs.to("cuda"))
    scale = expected_depth.logits.abs().max().item()
    torch.testing.assert_close(depth.logits.cpu(), expected_depth.logits, atol=1e-4 * scale, rtol=1e-4)
    # A pixel on the border of two cells may fall into the other cell, so nearly all cells are equal, and so is their sum.
    equal = torch.isclose(found.cpu(), expected, atol=1e-4 * expected.abs().max().item(), rtol=1e-4)
    assert equal.float().mean() > 0.999
    torch.testing.assert_close(found.sum((2, 3)).cpu(), expected.sum((2, 3)), atol=1e-2, rtol=1e-3)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("settings", [EFFICIENTNET, RESNET], ids=["efficientnet", "resnet"])
def test_a_training_step_stays_finite(settings: LiftSplatConfig, precision: torch.dtype) -> None:
    torch.manual_seed(0)
    model, inputs = LiftSplat(settings, GRID).cuda().train(), cameras(settings).to("cuda")
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(2):
        with torch.autocast("cuda", precision, enabled=precision != torch.float32):
            maps, depth = model.forward_with_depth(inputs)
            assert depth.bins is not None
            loss = maps.square().mean() + functional.cross_entropy(depth.logits.float(), depth.bins)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert np.isfinite(loss.item())
    assert all(weight.isfinite().all() for weight in model.parameters())
