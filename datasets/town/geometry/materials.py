"""Materials of the town's surfaces: their reflection of laser light and of the sky."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from heal.types import Float32


class Material(IntEnum):
    """The material of a triangle; the numbers index the three arrays below."""

    ROAD = 0
    BLOCK = 1
    KERB = 2
    FACADE = 3
    ROOF = 4
    TRUNK = 5
    LEAF = 6
    METAL = 7
    PAINT = 8
    GLASS = 9
    TYRE = 10
    HUB = 11
    LAMP_FRONT = 12
    LAMP_REAR = 13
    PLATE = 14
    TRIM = 15
    WALL = 16
    CLOTH = 17
    SIGN = 18
    STREET_LAMP = 19


# Laser reflectivity, share of the laser's returns that get lost, share of mirror-like reflection in a picture; each in [0, 1].
_TABLE: dict[Material, tuple[float, float, float]] = {
    Material.ROAD: (0.16, 0.02, 0.0),
    Material.BLOCK: (0.28, 0.01, 0.0),
    Material.KERB: (0.35, 0.01, 0.0),
    Material.FACADE: (0.40, 0.03, 0.0),
    Material.ROOF: (0.30, 0.02, 0.0),
    Material.TRUNK: (0.30, 0.02, 0.0),
    Material.LEAF: (0.42, 0.25, 0.0),
    Material.METAL: (0.50, 0.03, 0.15),
    Material.PAINT: (0.50, 0.04, 0.25),
    Material.GLASS: (0.08, 0.70, 0.55),
    Material.TYRE: (0.07, 0.10, 0.0),
    Material.HUB: (0.55, 0.05, 0.2),
    Material.LAMP_FRONT: (0.60, 0.10, 0.3),
    Material.LAMP_REAR: (0.75, 0.05, 0.2),
    Material.PLATE: (0.95, 0.00, 0.0),
    Material.TRIM: (0.12, 0.08, 0.05),
    Material.WALL: (0.40, 0.01, 0.0),
    Material.CLOTH: (0.35, 0.03, 0.0),
    Material.SIGN: (0.95, 0.00, 0.05),
    Material.STREET_LAMP: (0.50, 0.03, 0.15),
}

REFLECTIVITY: Float32 = np.array([_TABLE[m][0] for m in Material], np.float32)
LOST_SHARE: Float32 = np.array([_TABLE[m][1] for m in Material], np.float32)
MIRROR_SHARE: Float32 = np.array([_TABLE[m][2] for m in Material], np.float32)
