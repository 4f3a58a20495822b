"""Lies by the scales of a pyramid: each function returns the maps (C, ny, nx) and scores (ny, nx) that the liar sends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from heal.tools.sweeps.patches import Patches
from heal.types import Float32

Levels: TypeAlias = Sequence[Float32]
ScaleLie: TypeAlias = Callable[[Levels, Levels, Patches], tuple[Levels, Levels]]
_AT_CARS = np.float32(-5.0)


def times(factor: float) -> ScaleLie:
    """Return a lie that multiplies every map."""
    return lambda maps, scores, _: ([np.float32(factor) * level for level in maps], scores)


def blank(maps: Levels, scores: Levels, patches: Patches) -> tuple[Levels, Levels]:
    """See nothing, and be sure of it everywhere."""
    return [np.zeros_like(level) for level in maps], _ones(scores)


def sure(maps: Levels, scores: Levels, patches: Patches) -> tuple[Levels, Levels]:
    """Be sure everywhere of the liar's own maps."""
    return maps, _ones(scores)


def negated_at_cars(maps: Levels, scores: Levels, patches: Patches) -> tuple[Levels, Levels]:
    """Multiply the maps by -5 where there are vehicles, and be sure there."""
    maps, scores = _copies(maps), _copies(scores)
    for level, score in zip(maps, scores, strict=True):
        for car in patches.cars:
            square = patches.square(car, len(score))
            level[square] *= _AT_CARS
            score[square] = 1.0
    return maps, scores


def planted(maps: Levels, scores: Levels, patches: Patches) -> tuple[Levels, Levels]:
    """Copy the patches of vehicles to empty places at every scale, and be sure there."""
    changed, sure_there = _copies(maps), _copies(scores)
    for level, honest, score in zip(changed, maps, sure_there, strict=True):
        for i, place in enumerate(patches.empty if len(patches.cars) else ()):
            source, square = patches.square(patches.cars[i % len(patches.cars)], len(score)), patches.square(place, len(score))
            level[square] = honest[source]
            score[square] = 1.0
    return changed, sure_there


def _ones(scores: Levels) -> Levels:
    return [np.ones_like(score) for score in scores]


def _copies(levels: Levels) -> list[Float32]:
    return [np.array(level) for level in levels]
