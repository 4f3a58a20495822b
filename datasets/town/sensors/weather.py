"""Weather of one town: the sun's direction and light, the colours of the sky, and the haze."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heal.datasets.town.sensors.patterns import float32_triple, smooth_noise
from heal.datasets.town.sensors.rows import dot_rows, tinted
from heal.types import Float32


@dataclass(frozen=True)
class Weather:
    """Light, sky and haze of one town; colours are linear RGB.

    Attributes:
        sun: (3,) unit vector towards the sun.
        sun_colour: (3,) light on a surface that faces the sun.
        zenith: (3,) colour of the sky overhead.
        horizon: (3,) colour of the sky at the horizon and of the haze.
        cloudiness: in [0, 1].
        sight_m: distance at which haze leaves a third of a colour.
        exposure: factor before the tone curve.
    """

    sun: Float32
    sun_colour: Float32
    zenith: Float32
    horizon: Float32
    cloudiness: float
    sight_m: float
    exposure: float

    def sky(self, direction: Float32) -> Float32:
        """Return the colour (N, 3) of the sky in unit directions (N, 3)."""
        up = np.clip(direction[:, 2], 0.0, 1.0)
        blend = np.clip(1.0 - up, 0.0, 1.0) ** 3.2
        colour = tinted(1 - blend, self.zenith) + tinted(blend, self.horizon)
        clouds = self._clouds(direction)
        colour = colour * (1 - clouds)[:, None] + tinted(clouds, 0.55 * self.horizon + 0.45)
        towards_sun = np.clip(dot_rows(direction, self.sun), 0.0, 1.0)
        halo = np.zeros_like(towards_sun)
        near = np.flatnonzero(towards_sun > 0.85)  # the halo is lost in rounding elsewhere, and powers that underflow take long
        halo[near] = 0.8 * towards_sun[near] ** 180
        glow = 0.35 * towards_sun**12 + halo + 25.0 * (towards_sun > 0.99996)
        seen: Float32 = colour + tinted(glow, self.sun_colour) * (1 - 0.7 * clouds)[:, None] * 0.4
        return seen.astype(np.float32, copy=False)

    def _clouds(self, direction: Float32) -> Float32:
        """Return the share of cloud (N,) in unit directions (N, 3); the clouds are a flat layer, seen in perspective."""
        height = np.maximum(direction[:, 2], 0.02) + 0.08
        x, y = direction[:, 0] / height * 0.045, direction[:, 1] / height * 0.045
        lumps = smooth_noise(x, y) * 0.7 + smooth_noise(3.1 * x + 0.3, 3.1 * y) * 0.3
        cover = np.clip((lumps - (0.68 - 0.32 * self.cloudiness)) * 5.0, 0.0, 1.0)
        fade = np.clip(direction[:, 2] * 9.0, 0.0, 1.0)
        thick: Float32 = (cover * cover * (3 - 2 * cover) * fade * 0.9).astype(np.float32)
        return thick


def draw_weather(rng: np.random.Generator) -> Weather:
    """Draw the weather of a day without rain."""
    elevation, azimuth = np.radians(rng.uniform(24.0, 62.0)), rng.uniform(0, 2 * np.pi)
    sun = np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)
    warm = float(np.clip((np.radians(50) - elevation) / np.radians(30), 0, 1))
    cloudiness = float(rng.uniform(0.0, 0.95))
    strength = 2.9 - 0.7 * cloudiness
    return Weather(
        sun=float32_triple(*sun),
        sun_colour=float32_triple(strength, strength * (0.93 - 0.10 * warm), strength * (0.82 - 0.24 * warm)),
        zenith=float32_triple(0.14, 0.29, 0.62) * np.float32(rng.uniform(0.85, 1.15)),
        horizon=float32_triple(0.66, 0.75, 0.88) * np.float32(rng.uniform(0.9, 1.08)),
        cloudiness=cloudiness,
        sight_m=float(rng.uniform(500.0, 1400.0)),
        exposure=float(rng.uniform(0.85, 1.0)),
    )
