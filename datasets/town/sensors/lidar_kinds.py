"""Kinds of LiDAR by name: their laser lines and columns, drawn with the small differences between two units of a kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from heal.types import Float64

Angles = tuple[Float64, Float64]


@dataclass(frozen=True)
class LidarKind:
    """A kind of LiDAR.

    Attributes:
        angles: draws a unit: the elevations (B,) of its lines, the topmost first, and the azimuths (A,) of its columns, in degrees.
        range_m: largest distance.
    """

    angles: Callable[[np.random.Generator], Angles]
    range_m: float


def _uniform64(rng: np.random.Generator) -> Angles:
    """Draw 64 even lines from about +3 to -25 degrees, all around."""
    return np.linspace(rng.uniform(2.0, 5.0), -25.0, 64), _around(int(rng.choice([1200, 1500, 1800])), rng)


def _dense_middle40(rng: np.random.Generator) -> Angles:
    """Draw 40 lines, denser near the horizon, all around."""
    top, bottom = [15.0, 11.0, 8.0, 5.0, 3.0, 2.0], [-19.0, -25.0]
    lines = np.concatenate([top, 5.0 / 3 - np.arange(24) / 3, -np.arange(7.0, 15.0), bottom])
    return lines + rng.uniform(-0.3, 0.3), _around(1800, rng)


def _sector300(rng: np.random.Generator) -> Angles:
    """Draw 300 lines, the densest of them near the horizon, within a sector of 94 to 104 degrees ahead."""
    parts = np.linspace(9, 1, 60, endpoint=False), np.linspace(1, -4, 72, endpoint=False), np.linspace(-4, -20, 168)
    half = rng.uniform(47.0, 52.0)
    return np.concatenate(parts), np.arange(-half, half, 0.36)


def _coarse16(rng: np.random.Generator) -> Angles:
    """Draw 16 lines and few columns, for quick tests."""
    return np.linspace(2.0, -16.0, 16), _around(360, rng)


def _spinning40(rng: np.random.Generator) -> Angles:
    """Draw 40 lines from +7 to -16 degrees, a third of a degree apart between +2 and -6 degrees and a degree elsewhere."""
    lines = np.concatenate([np.arange(7.0, 2.0, -1.0), np.linspace(2.0, -6.0, 25), np.arange(-7.0, -17.0, -1.0)])
    return lines, _around(1800, rng)


def _spinning128(rng: np.random.Generator) -> Angles:
    """Draw 128 lines from +15 to -25 degrees, an eighth of a degree apart between +1.5 and -6.5 degrees."""
    lines = np.concatenate([np.linspace(15.0, 2.0, 27), np.linspace(1.5, -6.5, 65), np.linspace(-7.0, -25.0, 36)])
    return lines, _around(1800, rng)


def _solid_state120(rng: np.random.Generator) -> Angles:
    """Draw 125 even lines from +12.5 to -12.5 degrees, within a sector of 120 degrees ahead."""
    return np.linspace(12.5, -12.5, 125), np.arange(-60.0, 60.0, 0.2) + rng.uniform(0.0, 0.2)


def _roadside120(rng: np.random.Generator) -> Angles:
    """Draw 128 lines from the horizon to -40 degrees, denser near the horizon, within a sector of 120 degrees ahead."""
    lines = np.concatenate([np.linspace(0.0, -10.0, 68, endpoint=False), np.linspace(-10.0, -40.0, 60)])
    return lines, np.arange(-60.0, 60.0, 0.25) + rng.uniform(0.0, 0.25)


def _around(columns: int, rng: np.random.Generator) -> Float64:
    """Draw the azimuths (columns,) of even columns all around, with a random offset."""
    return np.linspace(-180.0, 180.0, columns, endpoint=False) + 360.0 / columns * rng.uniform()


LIDARS: dict[str, LidarKind] = {
    "uniform64": LidarKind(_uniform64, 120.0),
    "dense_middle40": LidarKind(_dense_middle40, 200.0),
    "sector300": LidarKind(_sector300, 200.0),
    "coarse16": LidarKind(_coarse16, 120.0),
    "spinning40": LidarKind(_spinning40, 200.0),
    "spinning128": LidarKind(_spinning128, 200.0),
    "solid_state120": LidarKind(_solid_state120, 200.0),
    "roadside120": LidarKind(_roadside120, 200.0),
}
