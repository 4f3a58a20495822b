"""The strided 1x1 convolution: equal to the plain convolution, and safe where the plain one's gradient ends the process."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from heal.layers.inference import for_inference
from heal.layers.residual import BasicBlock
from heal.layers.strided import StridedConv1x1
from tests.heal.networks import with_random_norms

# The narrow case: fewer than 16 channels in, channels_last, a map of 100 x 100. Freed memory is checked when it is reused.
NARROW = """
import torch
from heal.layers.inference import for_inference
from heal.layers.residual import BasicBlock
torch.set_num_threads(1)
block = BasicBlock({channels}, 16, stride=2).to(memory_format=torch.channels_last)
for _ in range(20):
    x = torch.randn(1, {channels}, 100, 100).to(memory_format=torch.channels_last).requires_grad_()
    block(x).sum().backward()
    assert x.grad.is_contiguous(memory_format=torch.channels_last)
"""


@pytest.mark.parametrize("channels", [4, 8, 12])
def test_the_gradient_of_a_narrow_shortcut_ends_no_process(channels: int) -> None:
    run = subprocess.run([sys.executable, "-c", NARROW.format(channels=channels)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [12, 16])
@pytest.mark.parametrize("size", [(8, 9), (7, 6)])
def test_values_and_gradients_are_those_of_the_plain_convolution(
    size: tuple[int, int], channels: int, memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    ours = StridedConv1x1(channels, 16, stride=2).to(memory_format=memory_format)
    # The plain convolution runs in the contiguous format, in which its gradient is sound.
    plain = nn.Conv2d(channels, 16, 1, 2, bias=False)
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(2, channels, *size)
    for expected, got in zip(_gradients(plain, x), _gradients(ours, x.to(memory_format=memory_format)), strict=True):
        torch.testing.assert_close(got, expected)
        assert got.is_contiguous(memory_format=memory_format)


def test_a_folded_block_is_the_same_with_and_without_gradients() -> None:
    torch.manual_seed(0)
    block = with_random_norms(BasicBlock(8, 32, stride=2)).eval()
    folded, x = for_inference(block), torch.randn(1, 8, 20, 20)
    with torch.no_grad():
        expected = block(x)
    torch.testing.assert_close(folded(x).detach(), expected, rtol=1e-4, atol=1e-4)


def test_without_gradients_it_is_the_plain_convolution() -> None:
    torch.manual_seed(0)
    ours, x = StridedConv1x1(8, 64, stride=2), torch.randn(1, 8, 63, 63)
    with torch.no_grad():
        assert torch.equal(ours(x), nn.functional.conv2d(x, ours.weight, stride=2))


def _gradients(convolution: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    y = convolution(x)
    y.square().sum().backward()
    assert x.grad is not None
    return y.detach(), x.grad


def test_shortcuts_of_residual_blocks_are_such_convolutions() -> None:
    shortcut = BasicBlock(8, 16, stride=2).downsample
    assert isinstance(shortcut, nn.Sequential) and isinstance(shortcut[0], StridedConv1x1)
