"""The gradient reversal layer (Ganin & Lempitsky 2015, "Unsupervised Domain Adaptation by Backpropagation", section 3.1)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def reverse_gradient(x: Tensor) -> Tensor:
    """Return `x`; its gradient will be the negative one, so that what makes `x` learns to raise the loss that follows."""
    reversed_: Tensor = _Reversal.apply(x)
    return reversed_


class _Reversal(torch.autograd.Function):
    """The identity with a negative gradient; see `reverse_gradient`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Return a view of x."""
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Return the negative gradient."""
        return -gradient
