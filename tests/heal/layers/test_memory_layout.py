"""Gradients that lie in memory as what they are of, and are the same numbers."""

import pytest
import torch

from heal.layers.memory_layout import gradient_as_itself, memory_format_of, split_rows, zeros_as

LAYOUTS = [torch.channels_last, torch.contiguous_format]


def leaf(layout: torch.memory_format) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(3, 4, 5, 6).to(memory_format=layout).requires_grad_()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_are_those_of_split_and_so_is_their_gradient(layout: torch.memory_format) -> None:
    x, y = leaf(layout), leaf(layout)
    for first, _, last in (split_rows(x), torch.split(y, 1)):  # nobody uses the middle one
        (first.square() + last * torch.arange(6.0)).sum().backward()
    assert all(row.data_ptr() == part.data_ptr() for row, part in zip(split_rows(x), torch.split(x, 1), strict=True))
    assert torch.equal(x.grad, y.grad)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_lie_as_what_they_are_of(layout: torch.memory_format) -> None:
    other, seen = LAYOUTS[1 - LAYOUTS.index(layout)], []
    x = leaf(layout) * 2  # no leaf: torch would bring the gradient of one into its layout anyway
    y = gradient_as_itself(x * 1)
    for watched in (x, y):
        watched.register_hook(lambda gradient: seen.append(memory_format_of(gradient)))
    y.to(memory_format=other).square().sum().backward()
    x = leaf(layout) * 2
    x.register_hook(lambda gradient: seen.append(memory_format_of(gradient)))
    torch.cat([row.to(memory_format=other) for row in split_rows(x)]).square().sum().backward()
    assert seen == [layout] * 3


@pytest.mark.parametrize("layout", LAYOUTS)
def test_zeros_lie_as_told(layout: torch.memory_format) -> None:
    zeros = zeros_as(leaf(layout), torch.Size((1, 2, 5, 6)))
    assert memory_format_of(zeros) is layout and not zeros.any()
