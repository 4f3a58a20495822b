"""Blocks that compute maps again for the gradient have the gradients of blocks that keep them, and keep less."""

import copy

import pytest
import torch
from torch import Tensor, nn

from heal.layers.residual import BasicBlock, GroupedBlock, ResidualBlock
from heal.layers.winograd import WIDE, WinogradConv2d, replace_wide


def _trained(block: ResidualBlock, x: Tensor) -> list[Tensor]:
    """Return output, gradients and statistics after one forward and backward pass."""
    leaf = x.clone().requires_grad_()
    output = block(leaf)
    (output * output).sum().backward()
    assert leaf.grad is not None
    return [
        output.detach(),
        leaf.grad,
        *(weight.grad for weight in block.parameters() if weight.grad is not None),
        *block.buffers(),
    ]


@pytest.mark.parametrize("block", [GroupedBlock(16, 32, 2, 4, 16), BasicBlock(16, 16, 1)], ids=["grouped", "basic"])
def test_gradients_are_the_same(block: ResidualBlock) -> None:
    torch.manual_seed(0)
    other = copy.deepcopy(block)
    other.recomputes = True
    x = torch.randn(2, 16, 12, 20).to(memory_format=torch.channels_last)
    for kept, recomputed in zip(_trained(block, x), _trained(other, x), strict=True):
        torch.testing.assert_close(recomputed, kept, rtol=1e-4, atol=1e-5)


def test_a_wide_block_learns_with_the_algorithm_of_wide_convolutions_too() -> None:
    torch.manual_seed(0)
    block = nn.Sequential(BasicBlock(WIDE, WIDE, 1))
    fast = copy.deepcopy(block)
    replace_wide(fast)
    assert isinstance(fast[0], BasicBlock) and isinstance(fast[0].conv2, WinogradConv2d)
    fast[0].recomputes = True
    x = torch.randn(1, WIDE, 8, 8)
    for plain, found in zip(_trained(block[0], x), _trained(fast[0], x), strict=True):
        torch.testing.assert_close(found, plain, rtol=1e-3, atol=1e-3)


def test_less_memory_is_kept() -> None:
    kept: list[int] = []
    block = GroupedBlock(16, 32, 2, 4, 16)
    for block.recomputes in (False, True):
        sizes: dict[int, int] = {}

        def note(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            sizes[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            block(torch.randn(2, 16, 12, 20, requires_grad=True))
        kept.append(sum(sizes.values()))
    assert kept[1] < 0.7 * kept[0]
