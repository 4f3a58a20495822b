"""Weather and time of day of one town: the sun's direction and light, the colours of the sky, haze, rain, and lamps at night."""

from __future__ import annotations

from collections.abc import Callable
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
        cloud_light: light of the clouds themselves.
        bounce: light from below, which the ground reflects.
        glare: share of the sun's light that a camera scatters over its image while it sees the sun.
        rain_mm_h: rate of the rain; 0 in dry weather.
        lamps_lit: whether street lamps, windows and the lamps of moving vehicles shine.
    """

    sun: Float32
    sun_colour: Float32
    zenith: Float32
    horizon: Float32
    cloudiness: float
    sight_m: float
    exposure: float
    cloud_light: float = 0.45
    bounce: float = 0.16
    glare: float = 0.0
    rain_mm_h: float = 0.0
    lamps_lit: bool = False

    def sky(self, direction: Float32) -> Float32:
        """Return the colour (N, 3) of the sky in unit directions (N, 3)."""
        up = np.clip(direction[:, 2], 0.0, 1.0)
        blend = np.clip(1.0 - up, 0.0, 1.0) ** 3.2
        colour = tinted(1 - blend, self.zenith) + tinted(blend, self.horizon)
        clouds = self._clouds(direction)
        colour = colour * (1 - clouds)[:, None] + tinted(clouds, 0.55 * self.horizon + self.cloud_light)
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


def draw_weather(rng: np.random.Generator, name: str = "day") -> Weather:
    """Draw weather of a kind in WEATHERS."""
    return WEATHERS[name](rng)


def _day(rng: np.random.Generator) -> Weather:
    """Draw the weather of a day without rain."""
    elevation, azimuth = np.radians(rng.uniform(24.0, 62.0)), rng.uniform(0, 2 * np.pi)
    warm = float(np.clip((np.radians(50) - elevation) / np.radians(30), 0, 1))
    cloudiness = float(rng.uniform(0.0, 0.95))
    strength = 2.9 - 0.7 * cloudiness
    return Weather(
        sun=_towards(elevation, azimuth),
        sun_colour=float32_triple(strength, strength * (0.93 - 0.10 * warm), strength * (0.82 - 0.24 * warm)),
        zenith=float32_triple(0.14, 0.29, 0.62) * np.float32(rng.uniform(0.85, 1.15)),
        horizon=float32_triple(0.66, 0.75, 0.88) * np.float32(rng.uniform(0.9, 1.08)),
        cloudiness=cloudiness,
        sight_m=float(rng.uniform(500.0, 1400.0)),
        exposure=float(rng.uniform(0.85, 1.0)),
    )


def _rain(rng: np.random.Generator) -> Weather:
    """Draw a rainy day: a closed grey sky without shadows, and a short sight."""
    rain_mm_h, grey = float(rng.uniform(5.0, 30.0)), np.float32(rng.uniform(0.75, 1.1))
    return Weather(
        sun=_towards(np.radians(50.0), rng.uniform(0, 2 * np.pi)),
        sun_colour=float32_triple(0.0, 0.0, 0.0),
        zenith=float32_triple(0.42, 0.44, 0.47) * grey,
        horizon=float32_triple(0.50, 0.53, 0.56) * grey,
        cloudiness=1.0,
        sight_m=float(rng.uniform(1.0, 1.3) * (450.0 - 9.0 * rain_mm_h)),
        exposure=float(rng.uniform(0.8, 1.0)),
        cloud_light=0.16,
        rain_mm_h=rain_mm_h,
    )


def _night(rng: np.random.Generator) -> Weather:
    """Draw a night: a little moonlight, and lamps."""
    moon = np.float32(rng.uniform(0.006, 0.03))
    glow = np.float32(rng.uniform(0.5, 1.3))  # of the lamps of distant places at the horizon
    return Weather(
        sun=_towards(np.radians(rng.uniform(25.0, 60.0)), rng.uniform(0, 2 * np.pi)),
        sun_colour=float32_triple(0.75, 0.85, 1.0) * moon,
        zenith=float32_triple(0.0012, 0.0018, 0.0040) * glow,
        horizon=float32_triple(0.0075, 0.0070, 0.0080) * glow,
        cloudiness=float(rng.uniform(0.0, 0.95)),
        sight_m=float(rng.uniform(400.0, 1200.0)),
        exposure=float(rng.uniform(3.0, 4.0)),
        cloud_light=0.002,
        bounce=0.003,
        lamps_lit=True,
    )


def _low_sun(rng: np.random.Generator) -> Weather:
    """Draw the first or last hour of a day: a low, yellow sun with long shadows and glare."""
    warm = np.float32(rng.uniform(0.85, 1.1))
    return Weather(
        sun=_towards(np.radians(rng.uniform(4.0, 10.0)), rng.uniform(0, 2 * np.pi)),
        sun_colour=float32_triple(2.5, 1.55, 0.75) * warm,
        zenith=float32_triple(0.13, 0.21, 0.40),
        horizon=float32_triple(0.72, 0.52, 0.36) * warm,
        cloudiness=float(rng.uniform(0.0, 0.6)),
        sight_m=float(rng.uniform(350.0, 900.0)),
        exposure=float(rng.uniform(0.9, 1.05)),
        cloud_light=0.2,
        bounce=0.09,
        glare=float(rng.uniform(0.08, 0.16)),
    )


def _towards(elevation: float, azimuth: float) -> Float32:
    """Return the unit vector (3,) of an elevation and an azimuth in radians."""
    return float32_triple(np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation))


WEATHERS: dict[str, Callable[[np.random.Generator], Weather]] = {"day": _day, "rain": _rain, "night": _night, "low_sun": _low_sun}
