"""Moving a map into another frame: the gather of whole cells against torch's sampling, and its gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from heal.fusion.warp import Window, affine_rows, gatherable
from tests.heal.fusion.test_every_fusion import GRID, poses

PLACES = poses((0, 0, 0), (3.1, -1.7, 20), (-14.2, 7.1, -75), (0.4, 0, 0), (25, 0, 0), (900, 0, 20))


def window(agent_SE3_ego: Tensor) -> Window:
    [affine] = affine_rows(agent_SE3_ego[None], GRID)
    return Window.of(affine, GRID.ny, GRID.nx, torch.device("cpu"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("place", PLACES)
def test_gathering_whole_cells_equals_sampling(place: Tensor, dtype: torch.dtype) -> None:
    maps = torch.randn(1, 16, GRID.ny, GRID.nx).to(dtype)
    sampled, gathered = window(place).sample(maps), window(place).sample(gatherable(maps))
    assert gathered.is_contiguous(memory_format=torch.channels_last) and gathered.dtype == dtype
    torch.testing.assert_close(gathered, sampled, rtol=1e-5, atol=1e-5)


def test_maps_that_need_gradients_are_sampled() -> None:
    maps = torch.randn(1, 16, GRID.ny, GRID.nx, requires_grad=True)
    assert gatherable(maps) is maps
    window(PLACES[1]).sample(maps.contiguous(memory_format=torch.channels_last)).sum().backward()
    assert maps.grad is not None and 0 < float(maps.grad.sum()) <= maps.numel() + 1
