"""Fast copies of networks for inference. A copy computes the same numbers up to rounding and cannot be trained.

Batch norms are folded into the convolutions before them. Kernels are stored in the channels_last format, in which grouped
convolutions run four times as fast on a CPU. On a CPU, Winograd's algorithm computes wide 3x3 convolutions with a quarter of the
multiplications.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from heal.layers.strided import StridedConv1x1
from heal.layers.winograd import replace_wide

Network = TypeVar("Network", bound=nn.Module)
Convolution = nn.Conv2d | nn.ConvTranspose2d

# Convolutions that use their weights as they are; a subclass may change them first.
_PLAIN: frozenset[type[nn.Module]] = frozenset((nn.Conv2d, nn.ConvTranspose2d, StridedConv1x1))
# The largest deviation of a folded network from the network itself, as a share of the largest value, in double precision.
_TOLERANCE = 1e-6


@runtime_checkable
class CheckedByExample(Protocol):
    """A network of another library's blocks: its norms are folded if the outputs for an example stay the same."""

    def folding_example(self) -> Tensor:
        """Return an input of the network, in double precision."""
        ...

    def __call__(self, example: Tensor) -> Sequence[Tensor]:
        """Return the outputs for the example."""
        ...


@runtime_checkable
class HasTrainingParts(Protocol):
    """A network with parts that only training uses."""

    def drop_training_parts(self) -> None:
        """Remove these parts."""
        ...


def for_inference(network: Network) -> Network:
    """Return a fast copy of a network in eval mode, without gradients; the network itself is left unchanged."""
    fast = copy.deepcopy(network).eval().requires_grad_(False)
    for part in list(fast.modules()):
        if isinstance(part, HasTrainingParts):
            part.drop_training_parts()
    for part in list(fast.modules()):
        if isinstance(part, CheckedByExample) and _folds_rightly(part):
            _fold_all(part)
        elif _runs_in_order(part):
            _fold_norms(part, _PLAIN)
    for part in fast.modules():
        if isinstance(part, Convolution):
            part.to(memory_format=torch.channels_last)
    replace_wide(fast)
    return fast


def _runs_in_order(parent: nn.Module) -> bool:
    """Return whether a module is known to apply a norm registered right behind a convolution to that convolution's output.

    This holds for a plain `Sequential`, and for blocks whose own class says so with `norms_follow_convolutions`. Subclasses may
    run their layers in another order, so they have to say so themselves.
    """
    return type(parent) is nn.Sequential or vars(type(parent)).get("norms_follow_convolutions") is True


def _folds_rightly(network: CheckedByExample) -> bool:
    """Return whether a network computes the same outputs for its example once all its norms are folded."""
    assert isinstance(network, nn.Module)
    plain = copy.deepcopy(network).double()
    folded, example = copy.deepcopy(plain), network.folding_example()
    _fold_all(folded)
    with torch.no_grad():
        pairs = zip(plain(example), folded(example), strict=True)
    return all(float((one - other).abs().max()) <= _TOLERANCE * float(one.abs().max()) for one, other in pairs)


def _fold_all(network: nn.Module) -> None:
    for parent in list(network.modules()):
        _fold_norms(parent)


def _fold_norms(parent: nn.Module, kinds: frozenset[type[nn.Module]] | None = None) -> None:
    """Fold the batch norms among a module's direct children into the convolutions that are registered right before them.

    Args:
        parent: the module; changed in place.
        kinds: classes of the convolutions; None for every class, also for those that change their kernels themselves.
    """
    # Not `named_children`, which leaves out a layer that is registered twice, such as a ReLU between convolution and norm.
    for (name, convolution), (norm_name, norm) in itertools.pairwise(list(parent._modules.items())):
        if not isinstance(convolution, Convolution) or not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None:
            continue
        if kinds is None or (type(convolution) in kinds and not convolution._forward_pre_hooks):
            transpose = isinstance(convolution, nn.ConvTranspose2d)
            setattr(parent, name, fuse_conv_bn_eval(convolution, norm, transpose=transpose))
            setattr(parent, norm_name, _without_norm(norm))


def _without_norm(norm: nn.BatchNorm2d) -> nn.Module:
    """Return the layers of a batch norm that remain once its norm is folded: timm's batch norms include dropout and activation."""
    parts = [part for name in ("drop", "act") if isinstance(part := getattr(norm, name, None), nn.Module)]
    return nn.Sequential(*parts) if parts else nn.Identity()
