"""Lies that are learned: the liar knows the base's weights, and changes its map along the gradient to plant and erase vehicles."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from heal.fusion.interface import AgentLevels
from heal.tools.sweeps.patches import Patches

_STEPS = 8
_STRENGTH = 3.0  # the largest change of a number, in standard deviations of its channel


def learned(features: Tensor, trunk: Callable[[Tensor], AgentLevels], patches: Patches) -> Tensor:
    """Raise the foreground at empty places and lower it at vehicles, at every scale, by projected gradient ascent.

    The liar knows how maps are checked, and stays inside: it changes the patches alone, so that the channels' means and spreads
    hardly move, and leaves no number outside of the range that its channel has on its honest map.

    Args:
        features: (1, C, ny, nx) the honest map.
        trunk: computes the scales of a map.
        patches: where vehicles are, and where there are none; without any place there is nothing to lie about.
    """
    if not len(patches.cars) + len(patches.empty):
        return features
    low, high = features.amin(dim=(2, 3), keepdim=True), features.amax(dim=(2, 3), keepdim=True)
    bound = _STRENGTH * features.std(dim=(2, 3), keepdim=True) * _mask(features, patches)
    changed = features.clone()
    for _ in range(_STEPS):
        with torch.enable_grad():
            changed.requires_grad_(True)
            [gradient] = torch.autograd.grad(_gain(trunk(changed), patches), [changed])
        step = changed.detach() + 2 * bound / _STEPS * gradient.sign()
        changed = torch.minimum(torch.maximum(step, features - bound), features + bound).clamp(low, high).detach()
    return changed


def _mask(features: Tensor, patches: Patches) -> Tensor:
    """Return 1 in the patches and 0 elsewhere (1, 1, ny, nx)."""
    mask = torch.zeros_like(features[:, :1])
    for place in (*patches.cars, *patches.empty):
        mask[patches.square(place, features.shape[2])] = 1.0
    return mask


def _gain(levels: AgentLevels, patches: Patches) -> Tensor:
    """Return what the liar wants: the mean logits at empty places, minus those at vehicles, over all scales."""
    gain = levels.occupancy[0].new_zeros(())
    for logits in levels.occupancy:
        for sign, places in ((1, patches.empty), (-1, patches.cars)):
            for place in places:
                gain = gain + sign * logits[patches.square(place, logits.shape[2])].mean()
    return gain
