"""Light and air of one town: where the sun stands, how the sky looks, how far one sees."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from heal.types import Float32, Float64, Int64

_NOISE_SIZE = 512


@dataclass(frozen=True)
class Weather:
    """Light of one town; colours are linear RGB.

    Attributes:
        sun: (3,) unit vector towards the sun.
        sun_colour: (3,) its light on a surface that faces it.
        zenith: (3,) the sky overhead.
        horizon: (3,) the sky low down, and the colour of the haze.
        cloudiness: in [0, 1].
        sight_m: distance after which haze leaves a third of a colour.
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
        """Colour (N, 3) of the sky in unit directions (N, 3)."""
        up = np.clip(direction[:, 2:], 0.0, 1.0)
        blend = np.clip(1.0 - up, 0.0, 1.0) ** 3.2
        colour = self.zenith * (1 - blend) + self.horizon * blend
        clouds = self._clouds(direction)[:, None]
        colour = colour * (1 - clouds) + clouds * (0.55 * self.horizon + 0.45)
        towards_sun = np.clip(direction @ self.sun, 0.0, 1.0)[:, None]
        glow = 0.35 * towards_sun**12 + 0.8 * towards_sun**180 + 25.0 * (towards_sun > 0.99996)
        seen: Float32 = (colour + glow * self.sun_colour * (1 - 0.7 * clouds) * 0.4).astype(np.float32)
        return seen

    def _clouds(self, direction: Float32) -> Float32:
        """(N,) how much cloud, on a layer that is seen in perspective."""
        height = np.maximum(direction[:, 2], 0.02) + 0.08
        x, y = direction[:, 0] / height * 0.045, direction[:, 1] / height * 0.045
        lumps = noise(x, y) * 0.7 + noise(3.1 * x + 0.3, 3.1 * y) * 0.3
        cover = np.clip((lumps - (0.68 - 0.32 * self.cloudiness)) * 5.0, 0.0, 1.0)
        fade = np.clip(direction[:, 2] * 9.0, 0.0, 1.0)
        thick: Float32 = (cover * cover * (3 - 2 * cover) * fade * 0.9).astype(np.float32)
        return thick


def draw_weather(rng: np.random.Generator) -> Weather:
    """A day without rain."""
    elevation, azimuth = np.radians(rng.uniform(24.0, 62.0)), rng.uniform(0, 2 * np.pi)
    sun = np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)
    warm = float(np.clip((np.radians(50) - elevation) / np.radians(30), 0, 1))
    cloudiness = float(rng.uniform(0.0, 0.95))
    strength = 2.9 - 0.7 * cloudiness
    return Weather(
        sun=rgb(*sun),
        sun_colour=rgb(strength, strength * (0.93 - 0.10 * warm), strength * (0.82 - 0.24 * warm)),
        zenith=rgb(0.14, 0.29, 0.62) * np.float32(rng.uniform(0.85, 1.15)),
        horizon=rgb(0.66, 0.75, 0.88) * np.float32(rng.uniform(0.9, 1.08)),
        cloudiness=cloudiness,
        sight_m=float(rng.uniform(500.0, 1400.0)),
        exposure=float(rng.uniform(0.85, 1.0)),
    )


def rgb(red: float, green: float, blue: float) -> Float32:
    """(3,) a colour, or any three numbers, in single precision: double would spread through whole pictures."""
    return np.array([red, green, blue], np.float32)


def noise(x: Float64 | Float32, y: Float64 | Float32) -> Float32:
    """Smooth noise in [0, 1] that repeats after 1 in x and in y; its lumps are about a tenth in size, with finer ones on top."""
    table = _noise_table()
    column, row = np.mod(x, 1.0) * _NOISE_SIZE, np.mod(y, 1.0) * _NOISE_SIZE
    i, j = column.astype(np.int32), row.astype(np.int32)
    a, b = (column - i).astype(np.float32), (row - j).astype(np.float32)
    i, j = i % _NOISE_SIZE, j % _NOISE_SIZE
    right, below = (i + 1) % _NOISE_SIZE, (j + 1) % _NOISE_SIZE
    upper = table[j, i] * (1 - a) + table[j, right] * a
    lower = table[below, i] * (1 - a) + table[below, right] * a
    return (upper * (1 - b) + lower * b).astype(np.float32)


@lru_cache(maxsize=1)
def _noise_table() -> Float32:
    """Five octaves of random waves that fit the table's edge, made from a fixed seed."""
    rng = np.random.default_rng(20240)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(_NOISE_SIZE), np.fft.rfftfreq(_NOISE_SIZE), indexing="ij")) * _NOISE_SIZE
    strength = np.where(frequency < 4, 0.0, 1.0 / np.maximum(frequency, 1.0) ** 1.5)
    spectrum = strength * np.exp(2j * np.pi * rng.random(frequency.shape))
    field = np.fft.irfft2(spectrum, (_NOISE_SIZE, _NOISE_SIZE))
    ranks = field.ravel().argsort().argsort().reshape(field.shape)
    return (ranks / field.size).astype(np.float32)


def speckle(i: Float64 | Float32 | Int64, j: Float64 | Float32 | Int64, salt: int = 0) -> Float32:
    """A random number in [0, 1) for each pair of whole numbers; equal pairs get equal numbers."""
    a, b = np.asarray(i).astype(np.int64), np.asarray(j).astype(np.int64)
    mixed = (a * 73856093) ^ (b * 19349663) ^ (salt * 83492791)
    mixed = ((mixed ^ (mixed >> 13)) * 1274126177) & 0x7FFFFFFF
    number: Float32 = ((mixed ^ (mixed >> 16)) & 0xFFFF).astype(np.float32) / np.float32(65536.0)
    return number
