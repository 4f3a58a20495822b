"""Random patterns for the look of surfaces and sky: smooth noise over the plane, and a random number for each cell of a grid."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from heal.types import Float32, Float64, Int64

_NOISE_SIZE = 512  # rows and columns of the noise table


def float32_triple(red: float, green: float, blue: float) -> Float32:
    """Return a colour, or any three numbers, as (3,) float32; float64 numbers would turn whole pictures into float64."""
    return np.array([red, green, blue], np.float32)


def smooth_noise(x: Float64 | Float32, y: Float64 | Float32) -> Float32:
    """Return smooth noise in [0, 1] at positions (N,); it repeats after 1 in x and in y.

    The largest lumps are about a tenth in size, with finer lumps on top.
    """
    column, row = (x - np.floor(x)) * _NOISE_SIZE, (y - np.floor(y)) * _NOISE_SIZE
    left, top = np.floor(column), np.floor(row)
    a, b = (column - left).astype(np.float32), (row - top).astype(np.float32)
    # Rounding can make the rest of a division by 1 equal to 1.
    i, j = left.astype(np.intp) % _NOISE_SIZE, top.astype(np.intp) % _NOISE_SIZE
    corners = _noise_corners().take(j * _NOISE_SIZE + i, axis=0)
    upper = corners[:, 0] * (1 - a) + corners[:, 1] * a
    lower = corners[:, 2] * (1 - a) + corners[:, 3] * a
    return (upper * (1 - b) + lower * b).astype(np.float32, copy=False)


@lru_cache(maxsize=1)
def _noise_corners() -> Float32:
    """Return the noise table's values (_NOISE_SIZE ** 2, 4) at each place, right of it, below it, and right of that.

    One look-up of four neighbours takes a third of the time of four look-ups.
    """
    table = _noise_table()
    below = np.roll(table, -1, axis=0)
    corners = [table, np.roll(table, -1, axis=1), below, np.roll(below, -1, axis=1)]
    return np.ascontiguousarray(np.stack(corners, axis=-1).reshape(-1, 4))


@lru_cache(maxsize=1)
def _noise_table() -> Float32:
    """Make a periodic table (_NOISE_SIZE, _NOISE_SIZE) of five octaves of random waves from a fixed seed."""
    rng = np.random.default_rng(20240)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(_NOISE_SIZE), np.fft.rfftfreq(_NOISE_SIZE), indexing="ij")) * _NOISE_SIZE
    strength = np.where(frequency < 4, 0.0, 1.0 / np.maximum(frequency, 1.0) ** 1.5)
    spectrum = strength * np.exp(2j * np.pi * rng.random(frequency.shape))
    field = np.fft.irfft2(spectrum, (_NOISE_SIZE, _NOISE_SIZE))
    ranks = field.ravel().argsort().argsort().reshape(field.shape)
    return (ranks / field.size).astype(np.float32)


def speckle(i: Float64 | Float32 | Int64, j: Float64 | Float32 | Int64, salt: int = 0) -> Float32:
    """Return a random number in [0, 1) for each pair of whole numbers; equal pairs with equal `salt` get equal numbers."""
    a, b = np.asarray(i).astype(np.int64), np.asarray(j).astype(np.int64)
    mixed = (a * 73856093) ^ (b * 19349663) ^ (salt * 83492791)
    mixed = ((mixed ^ (mixed >> 13)) * 1274126177) & 0x7FFFFFFF
    number: Float32 = ((mixed ^ (mixed >> 16)) & 0xFFFF).astype(np.float32) / np.float32(65536.0)
    return number
