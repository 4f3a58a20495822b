"""Rain in a LiDAR's sweep: returns that are lost or weakened on the way, wet ground, and returns of drops near the sensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heal.datasets.town.geometry.materials import Material
from heal.datasets.town.geometry.mesh import NO_OWNER
from heal.types import Float32, Int64, UInt8

_PER_DB_KM = np.log(10.0) / 10.0 / 1000.0  # from dB/km to 1/m
_DROPS_PER_MM_H = 4e-4  # share of the rays that a drop reflects, for each mm/h
_DROP_FROM_M, _DROP_MEAN_M = 0.8, 4.0  # the nearest return of a drop, and the mean distance beyond it
_GETS_WET = np.isin(np.array(Material), (Material.ROAD, Material.BLOCK, Material.KERB, Material.ROOF))
_WET_REFLECTIVITY = np.float32(0.6)  # of dry ground's


@dataclass(frozen=True)
class Returns:
    """The returns of a sweep, before they become points.

    Attributes:
        ray: (N,) number of the ray.
        distance: (N,) measured distance in metres.
        intensity: (N,) before it is clipped at 1.
        owner: (N,) id of the object that was hit, or NO_OWNER.
    """

    ray: Int64
    distance: Float32
    intensity: Float32
    owner: Int64


def returns_in_rain(
    dry: Returns, material: UInt8, facing: Float32, first_hit: Float32, rain_mm_h: float, rng: np.random.Generator
) -> Returns:
    """Return what a LiDAR measures in rain instead of the returns of dry weather.

    Args:
        dry: N returns of dry weather.
        material: (N,) the material that was hit.
        facing: (N,) absolute cosine between ray and surface normal.
        first_hit: (R,) distance of the first hit of all R rays; inf without one. A drop behind it returns nothing.
        rain_mm_h: rate of the rain.
        rng: random numbers; every ray draws the same number of them.
    """
    chance, drop_chance, glint = rng.random((3, len(first_hit)), np.float32)
    share, wet = transmission(dry.distance, rain_mm_h), _GETS_WET[material]
    # A wet surface that a ray grazes reflects the ray away from the sensor.
    away = np.where(wet, 0.6 * np.clip(1.0 - facing / 0.12, 0.0, 1.0), 0.0)
    drop = _DROP_FROM_M + _DROP_MEAN_M * rng.standard_exponential(len(first_hit), np.float32)
    has_drop = (drop_chance < _DROPS_PER_MM_H * rain_mm_h) & (drop < first_hit)
    drops = np.flatnonzero(has_drop)
    kept = (chance[dry.ray] < share * (1.0 - away)) & ~has_drop[dry.ray]
    weakened = dry.intensity * share * np.where(wet, _WET_REFLECTIVITY, np.float32(1.0))
    return Returns(
        ray=np.concatenate([dry.ray[kept], drops]),
        distance=np.concatenate([dry.distance[kept], drop[drops]]),
        intensity=np.concatenate([weakened[kept], 0.01 + 0.06 * glint[drops]]),
        owner=np.concatenate([dry.owner[kept], np.full(len(drops), NO_OWNER)]),
    )


def transmission(distance: Float32, rain_mm_h: float) -> Float32:
    """Return the share (N,) of a laser's light that comes back through rain from distances (N,) in metres.

    Rain of R mm/h weakens light by 1.076 R ** 0.67 dB/km (Carbonneau; ITU-R P.1814).
    """
    per_m = 1.076 * rain_mm_h**0.67 * _PER_DB_KM
    share: Float32 = np.exp(np.float32(-2.0 * per_m) * distance).astype(np.float32)
    return share
