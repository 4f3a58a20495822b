"""Rain in an image: falling drops as bright streaks, and drops on the lens that show the scene upside down."""

from __future__ import annotations

import numpy as np

from heal.types import Float32

_STREAKS_PER_MM_H = 9.0  # in an image, for each mm/h
_LENS_DROPS_PER_MM_H = 0.35


def drops_on_lens(shown: Float32, rain_mm_h: float, rng: np.random.Generator) -> Float32:
    """Return an image (H, W, 3) in [0, 1] as a camera takes it in rain.

    Args:
        shown: the image.
        rain_mm_h: rate of the rain.
        rng: random numbers.
    """
    image: Float32 = shown.copy()
    slant = rng.normal(0.0, 0.12)
    for _ in range(int(rng.poisson(_STREAKS_PER_MM_H * rain_mm_h))):
        _add_streak(image, slant, rng)
    for _ in range(int(rng.poisson(_LENS_DROPS_PER_MM_H * rain_mm_h))):
        _add_lens_drop(image, shown, rng)
    return image


def _add_streak(image: Float32, slant: float, rng: np.random.Generator) -> None:
    """Brighten a short, almost vertical line of an image (H, W, 3)."""
    height, width = image.shape[:2]
    top, left = rng.uniform(-0.1, 1.0) * height, rng.uniform(0.0, 1.0) * width
    length, strength = rng.uniform(0.01, 0.07) * height, float(rng.uniform(0.05, 0.22))
    rows = np.arange(max(0, int(top)), min(height, int(top + length) + 1))
    columns = (left + (slant + rng.normal(0.0, 0.03)) * (rows - top)).astype(np.int64)
    inside = (columns >= 0) & (columns < width)
    rows, columns = rows[inside], columns[inside]
    image[rows, columns] += strength * (0.85 - image[rows, columns])


def _add_lens_drop(image: Float32, scene: Float32, rng: np.random.Generator) -> None:
    """Draw a drop on the lens: a small, blurred image of the scene (H, W, 3), upside down, as it is seen through a round lens."""
    height, width = image.shape[:2]
    middle, radius = rng.uniform(0.0, 1.0, 2) * [height, width], float(rng.uniform(0.008, 0.028) * width)
    low = np.maximum(np.floor(middle - radius).astype(int), 0)
    high = np.minimum(np.ceil(middle + radius).astype(int) + 1, [height, width])
    rows, columns = np.mgrid[low[0] : high[0], low[1] : high[1]]
    offset = np.stack([rows - middle[0], columns - middle[1]], axis=-1) / radius
    away = np.linalg.norm(offset, axis=-1)
    # The farther from the drop's middle, the farther away a ray comes from, on the opposite side.
    source = np.clip(middle - offset * (1.0 + 2.0 * away[..., None]) * 3.0 * radius, 0, [height - 1, width - 1]).astype(int)
    share = np.clip((1.0 - away) * 0.5 * radius, 0.0, 0.8)[..., None].astype(np.float32)
    patch = image[low[0] : high[0], low[1] : high[1]]
    patch += share * (scene[source[..., 0], source[..., 1]] * np.float32(0.92) - patch)
