"""The fast linear layer: torch's numbers, torch's gradients, and its operations are counted."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from heal.layers.attention import attend
from heal.layers.linear import Linear, linear
from heal.tools.benches.setup import count_flops


def test_without_gradients_the_numbers_are_those_of_torch() -> None:
    x, weight, bias = torch.randn(3, 5, 20), torch.randn(7, 20), torch.randn(7)
    with torch.no_grad():
        for part in (x, x[:, ::2], x.transpose(0, 1)):
            torch.testing.assert_close(linear(part, weight, bias), F.linear(part, weight, bias))
            torch.testing.assert_close(linear(part, weight), F.linear(part, weight))


def test_gradients_and_other_types_of_numbers_are_left_to_torch() -> None:
    layer, x = Linear(4, 3), torch.randn(2, 4, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None and layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, x.detach().sum(dim=0).expand(3, 4))
    with torch.no_grad():
        assert layer.double()(x.double()).dtype == torch.float64
        with torch.autocast("cpu", torch.bfloat16):
            assert layer.float()(x).dtype == torch.bfloat16


def test_operations_are_counted() -> None:
    layer, x, vectors = Linear(4, 3), torch.randn(5, 4), torch.randn(2, 3, 5, 8)
    with torch.no_grad():
        assert count_flops(lambda: layer(x)) == 2 * 5 * 4 * 3
        assert count_flops(lambda: attend(vectors, vectors, vectors)) == 2 * 2 * 3 * 5 * 5 * (8 + 8)
