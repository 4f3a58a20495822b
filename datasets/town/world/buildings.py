"""Meshes of buildings: town houses with flat roofs, and detached houses with gables."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from heal.datasets.town.geometry.materials import Material
from heal.datasets.town.geometry.mesh import Colour, Mesh, quads
from heal.datasets.town.world.blocks import Block, BlockUse, split_into_lots
from heal.datasets.town.world.streets import KERB_M, TownMap
from heal.types import Float64


class Facade(IntEnum):
    """Pattern of a wall. A triangle's style is the pattern plus `FACADES` times a number that distinguishes the buildings."""

    BRICK = 0
    PLASTER = 1
    CONCRETE = 2
    GLASS = 3
    BLANK = 4


FACADES = 8  # more than the number of patterns
HOUSE_NUMBERS = 4000  # buildings from this number on are detached houses, which have no shops
_WALLS: dict[Facade, tuple[Colour, ...]] = {
    Facade.BRICK: ((0.30, 0.10, 0.06), (0.36, 0.15, 0.09), (0.24, 0.12, 0.09), (0.42, 0.28, 0.17)),
    Facade.PLASTER: ((0.70, 0.62, 0.45), (0.72, 0.68, 0.60), (0.62, 0.46, 0.32), (0.48, 0.55, 0.52), (0.72, 0.56, 0.46)),
    Facade.CONCRETE: ((0.42, 0.41, 0.39), (0.52, 0.50, 0.46), (0.33, 0.34, 0.35)),
    Facade.GLASS: ((0.12, 0.18, 0.22), (0.10, 0.16, 0.16), (0.20, 0.22, 0.24)),
    Facade.BLANK: ((0.48, 0.46, 0.42), (0.40, 0.36, 0.32)),
}
_ROOFS: tuple[Colour, ...] = ((0.28, 0.09, 0.05), (0.20, 0.12, 0.09), (0.13, 0.13, 0.14), (0.25, 0.16, 0.10))


def make_buildings(town: TownMap, blocks: tuple[Block, ...], rng: np.random.Generator) -> list[Mesh]:
    """Draw the buildings of all blocks."""
    meshes: list[Mesh] = []
    for block in blocks:
        if block.use is BlockUse.BUILT:
            meshes += _town_houses(town, block, rng)
        elif block.use is BlockUse.HOUSES:
            meshes += _detached_houses(town, block, rng)
    return meshes


def _town_houses(town: TownMap, block: Block, rng: np.random.Generator) -> list[Mesh]:
    """Draw the town houses of a block; their heights vary around a number of storeys of the block."""
    meshes = []
    storeys = rng.uniform(2, 6)
    for low, high in split_into_lots(block, rng, rng.uniform(16.0, 30.0)):
        if rng.uniform() < 0.07:
            continue
        setback = rng.uniform(0.0, 1.2) + (rng.uniform() < 0.15) * rng.uniform(1.0, 3.0)
        height = 3.2 * max(1.0, round(storeys + rng.uniform(-1.5, 3.0))) + rng.uniform(0.8, 1.6)
        facade = Facade(int(rng.choice(4, p=[0.32, 0.34, 0.20, 0.14])))
        meshes += _block_of_flats(town, low + setback, high - setback, height, facade, rng)
    return meshes


def _block_of_flats(
    town: TownMap, low: Float64, high: Float64, height: float, facade: Facade, rng: np.random.Generator
) -> list[Mesh]:
    """Make a building on a map rectangle: a flat roof with a parapet and up to two boxes on top."""
    style = facade + FACADES * int(rng.integers(2, HOUSE_NUMBERS))
    foot, base = _footprint(town, low, high)
    tint = _wall_colour(facade, rng)
    meshes = [_walls(foot, base, height, tint, style)]
    meshes.append(quads(_at(foot, base + height - 0.5)[None], Material.ROOF, (0.25, 0.25, 0.25)))
    band = _inset(foot, -0.12)
    meshes.append(_walls(band, base + height - 0.35, 0.4, _shade(tint, 0.8), Facade.BLANK))
    for _ in range(int(rng.integers(0, 3))):
        centre = (low + high) / 2 + rng.uniform(-0.25, 0.25, 2) * (high - low)
        part, _ = _footprint(town, centre - rng.uniform(1.0, 2.5, 2), centre + rng.uniform(1.0, 2.5, 2))
        meshes.append(_walls(part, base + height - 0.6, rng.uniform(1.5, 3.0), (0.4, 0.4, 0.4), Facade.BLANK))
    return meshes


def _detached_houses(town: TownMap, block: Block, rng: np.random.Generator) -> list[Mesh]:
    """Draw the detached houses of a block, at most one on each lot."""
    meshes = []
    for low, high in split_into_lots(block, rng, 24.0):
        size = np.minimum(high - low - 3.0, rng.uniform(7.5, 13.0, 2))
        if size.min() < 5.0 or rng.uniform() < 0.12:
            continue
        room = high - low - size
        start = low + room * rng.uniform(0.25, 0.75, 2)
        meshes += _gabled_house(town, start, start + size, rng)
    return meshes


def _gabled_house(town: TownMap, low: Float64, high: Float64, rng: np.random.Generator) -> list[Mesh]:
    """Make a house on a map rectangle, with a gabled roof whose ridge runs along the longer side."""
    facade = Facade(int(rng.choice(2)))
    tint, roof_tint = _wall_colour(facade, rng), _ROOFS[int(rng.integers(len(_ROOFS)))]
    foot, base = _footprint(town, low, high)
    if (high - low)[1] > (high - low)[0]:
        foot = np.roll(foot, -1, axis=0)
    eaves, rise = float(rng.choice([3.2, 6.1])), float(rng.uniform(2.0, 3.6))
    style = facade + FACADES * int(rng.integers(HOUSE_NUMBERS, 2 * HOUSE_NUMBERS))
    ridge = np.stack([(foot[1] + foot[2]) / 2, (foot[3] + foot[0]) / 2])
    wide, ridge_wide = _inset(foot, -0.45), ridge + 0.06 * (ridge - ridge[::-1])
    low_edge, top = _at(wide, base + eaves - 0.2), _at(ridge_wide, base + eaves + rise)
    roof = [np.stack([low_edge[0], low_edge[1], top[0], top[1]]), np.stack([low_edge[2], low_edge[3], top[1], top[0]])]
    corner, peak = _at(foot, base + eaves), _at(ridge, base + eaves + rise - 0.15)
    gables = [np.stack([corner[1], corner[2], peak[0], peak[0]]), np.stack([corner[3], corner[0], peak[1], peak[1]])]
    return [
        _walls(foot, base, eaves, tint, style),
        quads(np.array(roof), Material.ROOF, roof_tint, style=1),
        quads(np.array(gables), Material.FACADE, tint, style=windowless_style(facade)),
    ]


def windowless_style(facade: Facade) -> int:
    """Return the style of a wall without windows: bricks for a brick facade, else plaster."""
    return int(Facade.BLANK if facade is not Facade.BRICK else Facade.BLANK + FACADES)


def _footprint(town: TownMap, low: Float64, high: Float64) -> tuple[Float64, float]:
    """Return the world corners (4, 2) of a map rectangle, and the lowest height of the ground at its corners."""
    uv = np.array([[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]]])
    world = town.world(uv, KERB_M)
    return world[:, :2], float(world[:, 2].min())


def _at(foot: Float64, z: float) -> Float64:
    """Return positions (N, 3) of corners (N, 2) at height z."""
    return np.concatenate([foot, np.full((len(foot), 1), z)], axis=1)


def _inset(foot: Float64, margin_m: float) -> Float64:
    """Move corners (4, 2) towards their middle by about `margin_m`; a negative margin moves them outwards."""
    outward = foot - foot.mean(axis=0)
    inset: Float64 = foot - margin_m * np.sqrt(2) * outward / np.linalg.norm(outward, axis=1, keepdims=True)
    return inset


def _walls(foot: Float64, base: float, height: float, tint: Colour, style: int) -> Mesh:
    """Make four walls on corners (4, 2), from a metre below `base` to `height` above; the texture's t is 0 at `base`."""
    after = np.roll(foot, -1, axis=0)
    faces = np.stack(
        [
            _at(foot, base - 1.0),
            _at(after, base - 1.0),
            _at(after, base + height),
            _at(foot, base + height),
        ],
        axis=1,
    )
    length = np.linalg.norm(after - foot, axis=1)
    zero = np.zeros(4)
    s = np.stack([zero, length, length, zero], axis=1) + np.arange(4)[:, None] * 100.0
    t = np.broadcast_to(np.array([-1.0, -1.0, height, height]), (4, 4))
    return quads(faces, Material.FACADE, tint, texcoord=np.stack([s, t], axis=2), style=style)


def _wall_colour(facade: Facade, rng: np.random.Generator) -> Colour:
    colours = _WALLS[facade]
    return _shade(colours[int(rng.integers(len(colours)))], rng.uniform(0.8, 1.15))


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(0.95, channel * factor) for channel in colour)
    return red, green, blue
