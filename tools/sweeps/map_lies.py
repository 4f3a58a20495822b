"""Lies by a feature map (1, C, ny, nx): each function returns a map that the liar sends instead of its own."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from heal.tools.sweeps.patches import Patches

_OFFSET = 0.5
_FLIPPED = 4  # one channel in so many has its sign flipped


def noise(features: Tensor, generator: np.random.Generator) -> Tensor:
    """Return noise with the mean and the spread of the liar's own map in every channel."""
    drawn = torch.from_numpy(generator.standard_normal(features.shape)).to(features)
    mean, spread = features.mean(dim=(2, 3), keepdim=True), features.std(dim=(2, 3), keepdim=True)
    return mean + spread * drawn


def one_cell(features: Tensor, value: float) -> Tensor:
    """Set one number in the middle of the map."""
    changed = features.clone()
    changed[0, 0, features.shape[2] // 2, features.shape[3] // 2] = value
    return changed


def permuted(features: Tensor, generator: np.random.Generator) -> Tensor:
    """Permute the channels."""
    return features[:, generator.permutation(features.shape[1])]


def offset(features: Tensor) -> Tensor:
    """Add half of its spread to each channel."""
    return features + _OFFSET * features.std(dim=(2, 3), keepdim=True)


def flipped(features: Tensor) -> Tensor:
    """Flip the sign of every fourth channel."""
    changed = features.clone()
    changed[:, ::_FLIPPED] *= -1
    return changed


def planted(features: Tensor, patches: Patches, factor: float = 1.0) -> Tensor:
    """Copy the patches of vehicles, times a factor, to empty places."""
    changed, ny = features.clone(), features.shape[2]
    for i, place in enumerate(patches.empty if len(patches.cars) else ()):
        car = patches.cars[i % len(patches.cars)]
        changed[patches.square(place, ny)] = factor * features[patches.square(car, ny)]
    return changed


def erased(features: Tensor, patches: Patches) -> Tensor:
    """Copy empty places over the patches of all vehicles."""
    changed, ny = features.clone(), features.shape[2]
    for i, car in enumerate(patches.cars if len(patches.empty) else ()):
        changed[patches.square(car, ny)] = features[patches.square(patches.empty[i % len(patches.empty)], ny)]
    return changed
