"""Networks as they run fastest: the same numbers from a copy that can no longer be trained.

Batch norms are folded into the convolutions before them; kernels lie with channels last, in which order grouped convolutions run
four times as fast on a CPU; wide 3x3 convolutions are done there by Winograd's algorithm, with a quarter of the multiplications.
"""

from __future__ import annotations

import copy
import itertools
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from heal.winograd import WinogradConv2d

Network = TypeVar("Network", bound=nn.Module)
Convolution = nn.Conv2d | nn.ConvTranspose2d
# From so many channels in and out on Winograd's algorithm is twice as fast on a CPU, at 128 it takes as long as the direct one.
WIDE = 256


def for_inference(network: Network) -> Network:
    """A copy of a network in eval mode that gives the same up to rounding."""
    fast = copy.deepcopy(network).eval().requires_grad_(False)
    for parent in list(fast.modules()):
        _fold_norms(parent)
    for part in fast.modules():
        if isinstance(part, Convolution):
            part.to(memory_format=torch.channels_last)
    for parent in list(fast.modules()):
        _replace_wide(parent)
    return fast


class WideConv2d(nn.Module):
    """A wide 3x3 convolution, with the ReLU after it: by Winograd's algorithm in float32 on a CPU, elsewhere the direct one."""

    def __init__(self, direct: nn.Conv2d, relu: bool) -> None:
        """Keep the convolution, and what Winograd's algorithm makes of its kernel."""
        super().__init__()
        self.direct, self.winograd, self.relu = direct, WinogradConv2d(direct, relu), relu

    def forward(self, x: Tensor) -> Tensor:
        """(N, in, ny, nx) to (N, out, ny, nx)."""
        half = x.dtype != torch.float32 or torch.is_autocast_enabled(x.device.type)
        if x.device.type == "cpu" and not half and not (x.requires_grad and torch.is_grad_enabled()):
            y: Tensor = self.winograd(x)
            return y
        direct: Tensor = self.direct(x)
        return F.relu(direct, inplace=True) if self.relu else direct


def _fold_norms(parent: nn.Module) -> None:
    """Fold every batch norm that is registered right behind the convolution whose output it takes; as do all networks here."""
    for (name, convolution), (norm_name, norm) in itertools.pairwise(list(parent.named_children())):
        if isinstance(convolution, Convolution) and isinstance(norm, nn.BatchNorm2d):
            setattr(parent, name, fuse_conv_bn_eval(convolution, norm, transpose=isinstance(convolution, nn.ConvTranspose2d)))
            setattr(parent, norm_name, _rest(norm))


def _rest(norm: nn.BatchNorm2d) -> nn.Module:
    """What a batch norm does besides: timm's also have the activation in them."""
    parts = [part for name in ("drop", "act") if isinstance(part := getattr(norm, name, None), nn.Module)]
    return nn.Sequential(*parts) if parts else nn.Identity()


def _replace_wide(parent: nn.Module) -> None:
    """Replace the wide convolutions of a network, with the ReLU that follows where the parent runs its parts in a row."""
    children = [child for child in parent.named_children() if type(child[1]) is not nn.Identity]
    for i, (name, convolution) in enumerate(children):
        if not (isinstance(convolution, nn.Conv2d) and _is_wide(convolution)):
            continue
        next_name, following = children[i + 1] if i + 1 < len(children) else ("", None)
        relu = isinstance(parent, nn.Sequential) and isinstance(following, nn.ReLU)
        setattr(parent, name, WideConv2d(convolution, relu))
        if relu:
            setattr(parent, next_name, nn.Identity())


def _is_wide(convolution: nn.Conv2d) -> bool:
    shape = (convolution.kernel_size, convolution.stride, convolution.padding, convolution.dilation, convolution.groups)
    plain = shape == ((3, 3), (1, 1), (1, 1), (1, 1), 1) and convolution.padding_mode == "zeros"
    # Not a kind of its own, such as timm's that pads by itself.
    return plain and type(convolution) is nn.Conv2d and min(convolution.in_channels, convolution.out_channels) >= WIDE
