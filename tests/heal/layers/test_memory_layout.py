"""Gradients have the memory format of their maps, and the same numbers as torch's."""

import pytest
import torch

from heal.layers.memory_layout import keep_gradient_format, memory_format_of, split_batch, zeros_in_format_of

LAYOUTS = [torch.channels_last, torch.contiguous_format]


def leaf(layout: torch.memory_format) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(3, 4, 5, 6).to(memory_format=layout).requires_grad_()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_split_batch_and_its_gradient_equal_those_of_torch_split(layout: torch.memory_format) -> None:
    x, y = leaf(layout), leaf(layout)
    for first, _, last in (split_batch(x), torch.split(y, 1)):  # the middle part is not used
        (first.square() + last * torch.arange(6.0)).sum().backward()
    assert all(ours.data_ptr() == theirs.data_ptr() for ours, theirs in zip(split_batch(x), torch.split(x, 1), strict=True))
    assert torch.equal(x.grad, y.grad)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_have_the_memory_format_of_their_maps(layout: torch.memory_format) -> None:
    other, seen = LAYOUTS[1 - LAYOUTS.index(layout)], []
    x = leaf(layout) * 2  # not a leaf, because torch keeps the gradient of a leaf in the leaf's memory format itself
    y = keep_gradient_format(x * 1)
    for watched in (x, y):
        watched.register_hook(lambda gradient: seen.append(memory_format_of(gradient)))
    y.to(memory_format=other).square().sum().backward()
    x = leaf(layout) * 2
    x.register_hook(lambda gradient: seen.append(memory_format_of(gradient)))
    torch.cat([part.to(memory_format=other) for part in split_batch(x)]).square().sum().backward()
    assert seen == [layout] * 3


@pytest.mark.parametrize("layout", LAYOUTS)
def test_zeros_have_the_given_memory_format(layout: torch.memory_format) -> None:
    zeros = zeros_in_format_of(leaf(layout), torch.Size((1, 2, 5, 6)))
    assert memory_format_of(zeros) is layout and not zeros.any()
