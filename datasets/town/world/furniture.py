"""Meshes of street furniture and people: trees, lamps, signs, signals, hedges, walls, walkers, cyclists."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from heal.datasets.town.geometry.materials import Material
from heal.datasets.town.geometry.mesh import Colour, Mesh, box, cylinder, ellipsoid, loft, merge, quads, up
from heal.datasets.town.presets import TownPreset
from heal.datasets.town.world.blocks import Block, BlockUse
from heal.datasets.town.world.people import CLOTHES, cyclist_mesh, pedestrian_mesh
from heal.datasets.town.world.streets import KERB_M, SIDEWALK_M, TownMap
from heal.se3 import pose_to_SE3
from heal.types import Float64

_LEAVES: tuple[Colour, ...] = ((0.06, 0.13, 0.025), (0.09, 0.17, 0.03), (0.05, 0.11, 0.03), (0.14, 0.18, 0.04))
_CROWD, _GROVE = 16, 14  # numbers of different people and trees
_GREY: Colour = (0.30, 0.31, 0.32)


def make_furniture(town: TownMap, blocks: tuple[Block, ...], preset: TownPreset, rng: np.random.Generator) -> list[Mesh]:
    """Draw all street furniture and the people who stand still; none of them is labelled.

    Where pedestrians walk, the pavements are kept clear of people who stand still and of small things.
    """
    density = float(rng.uniform(*preset.clutter))
    meshes: list[Mesh] = []
    for block in blocks:
        if block.pavement_m == 0:
            meshes += _island(town, block, rng)
            continue
        near = np.abs(np.stack([block.low_uv, block.high_uv])).min(axis=0).max() < 110.0
        meshes += _street_side(town, block, density if near else 0.3 * density, preset, rng)
        if block.use is BlockUse.PARK:
            meshes += _park(town, block, density, preset.tree_scale, rng)
        elif block.use is not BlockUse.BUILT:
            meshes += _border(town, block, rng)
    return [*meshes, *_signals(town)]


def _street_side(town: TownMap, block: Block, density: float, preset: TownPreset, rng: np.random.Generator) -> list[Mesh]:
    """Draw trees, lamps, signs and people along the four sidewalks of a block."""
    meshes: list[Mesh] = []
    has_trees, is_clear = rng.uniform() < 0.6, preset.walkers[1] > 0
    for uv, inward in _edge_places(block, 11.0, rng):
        if town.near_ring(uv, SIDEWALK_M):
            continue
        if has_trees and rng.uniform() < 0.6 * density:
            meshes.append(tree(town.world(uv + 0.9 * inward, KERB_M), preset.tree_scale * rng.uniform(0.6, 1.0), rng))
        if rng.uniform() < 0.22:
            meshes.append(street_lamp(town, uv + 0.6 * inward + rng.uniform(-1, 1, 2) * 0.1, -inward))
        if is_clear:
            continue
        if rng.uniform() < 0.35 * density:
            meshes.append(_small_thing(town, uv + rng.uniform(0.5, SIDEWALK_M - 0.4) * inward, rng))
        if rng.uniform() < 0.45 * density:
            meshes.append(_person(town.world(uv + rng.uniform(0.8, SIDEWALK_M) * inward, KERB_M), rng))
    return meshes


def _edge_places(block: Block, step_m: float, rng: np.random.Generator) -> list[tuple[Float64, Float64]]:
    """Draw map positions (2,) at the kerb around a block, away from its corners, each with the direction (2,) into the block."""
    places = []
    for axis in (0, 1):
        other = 1 - axis
        for edge, sign in ((block.low_uv, 1.0), (block.high_uv, -1.0)):
            inward = np.zeros(2)
            inward[other] = sign
            for along in np.arange(block.low_uv[axis] + 6.0, block.high_uv[axis] - 6.0, step_m):
                uv = np.zeros(2)
                uv[axis], uv[other] = along + rng.uniform(-2.0, 2.0), edge[other]
                places.append((uv, inward))
    return places


def tree(foot: Float64, size: float, rng: np.random.Generator) -> Mesh:
    """Draw a tree of about 7 m times `size` at the world position `foot` (3,)."""
    grown = _grove()[int(rng.integers(_GROVE))].scaled(size)
    return grown.moved(pose_to_SE3([*foot, 0.0, rng.uniform(0, 360.0), 0.0]))


@lru_cache(maxsize=1)
def _grove() -> list[Mesh]:
    """Make a fixed set of trees; a town uses each of them many times, in other sizes and directions."""
    return [_grown_tree(np.random.default_rng(number)) for number in range(_GROVE)]


def _grown_tree(rng: np.random.Generator) -> Mesh:
    """Draw a tree of about 7 m at the origin."""
    leaf = _LEAVES[int(rng.integers(len(_LEAVES)))]
    top = up(2.6 * rng.uniform(0.8, 1.1) + 1.2)
    parts = [cylinder(-up(0.2), top, 0.19, Material.TRUNK, (0.10, 0.07, 0.05), 7)]
    for _ in range(int(rng.integers(3, 6))):
        centre = top + rng.normal(0, 1, 3) * np.array([0.9, 0.9, 0.6]) + up(0.9)
        parts.append(ellipsoid(centre, rng.uniform(1.1, 1.9, 3), Material.LEAF, leaf, rng))
    parts.append(_loose_leaves(top + up(0.9), 2.2, leaf, rng))
    return merge(parts)


def _loose_leaves(centre: Float64, radius: float, tint: Colour, rng: np.random.Generator) -> Mesh:
    """Draw small faces around a tree's crown, so that its outline and the LiDAR's returns are rough."""
    count = 130
    direction = rng.normal(0, 1, (count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    middle = centre + direction * radius * rng.uniform(0.62, 1.0, (count, 1)) * [1, 1, 0.75]
    first = rng.normal(0, 1, (count, 3)) * 0.17
    second = np.cross(first, direction) * 0.9
    corners = np.stack([middle - first, middle - second, middle + first, middle + second], axis=1)
    normals = np.repeat(direction[:, None], 4, axis=1)
    return quads(corners, Material.LEAF, tint, normals=normals)


def bush(foot: Float64, rng: np.random.Generator) -> Mesh:
    """Draw a bush of about a metre at the world position `foot` (3,)."""
    radii = rng.uniform(0.4, 1.0, 3)
    return ellipsoid(foot + up(0.5 * radii[2]), radii, Material.LEAF, _LEAVES[int(rng.integers(len(_LEAVES)))], rng)


def street_lamp(town: TownMap, uv: Float64, towards: Float64) -> Mesh:
    """Make a street lamp at a map position (2,), with its arm in the map direction `towards` (2,)."""
    foot, tip = town.world(uv, KERB_M), town.world(uv + 1.8 * towards, KERB_M)
    top = foot + up(6.8)
    arm = tip + up(7.1)
    return merge(
        [
            cylinder(foot, top, 0.08, Material.METAL, _GREY, 8),
            cylinder(top, arm, 0.05, Material.METAL, _GREY, 6),
            box(arm - up(0.06), (0.6, 0.6, 0.12), Material.STREET_LAMP, (0.5, 0.5, 0.5)),
        ]
    )


def _small_thing(town: TownMap, uv: Float64, rng: np.random.Generator) -> Mesh:
    """Draw a traffic sign, a bin, an electrical cabinet, traffic cones, or bollards at a map position (2,)."""
    foot, yaw = town.world(uv, KERB_M), float(rng.uniform(0, np.pi))
    choice = int(rng.integers(5))
    if choice == 0:
        plate: Colour = ((0.6, 0.03, 0.03), (0.03, 0.1, 0.5), (0.8, 0.8, 0.8))[int(rng.integers(3))]
        pole = cylinder(foot, foot + up(2.6), 0.035, Material.METAL, _GREY, 6)
        return merge([pole, box(foot + up(2.3), (0.04, 0.6, 0.6), Material.SIGN, plate, yaw)])
    if choice == 1:
        return cylinder(foot, foot + up(0.95), 0.28, Material.METAL, (0.06, 0.12, 0.08), 10)
    if choice == 2:
        return box(foot + up(0.55), (0.5, 1.1, 1.1), Material.METAL, (0.30, 0.33, 0.28), town.warp.turn)
    if choice == 3:
        return merge([_cone(foot + np.append(rng.uniform(-1.5, 1.5, 2), 0.0)) for _ in range(3)])
    posts = foot, foot + np.array([1.2, 0.0, 0.0])
    return merge([cylinder(post, post + up(0.8), 0.07, Material.METAL, _GREY, 6) for post in posts])


def _person(foot: Float64, rng: np.random.Generator) -> Mesh:
    """Draw one of the people at the world position `foot` (3,)."""
    return _crowd()[int(rng.integers(_CROWD))].moved(pose_to_SE3([*foot, 0.0, rng.uniform(0, 360.0), 0.0]))


def _cone(foot: Float64) -> Mesh:
    """Make a traffic cone at the world position `foot` (3,)."""
    angles = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    return loft(np.stack([foot + 0.19 * ring, foot + 0.03 * ring + up(0.7)]), Material.SIGN, (0.75, 0.16, 0.03))


@lru_cache(maxsize=1)
def _crowd() -> list[Mesh]:
    """Make a fixed set of people; a few are enough, because people look similar to a LiDAR."""
    walkers = [_walker(np.random.default_rng(number)) for number in range(_CROWD - 4)]
    return walkers + [_cyclist(np.random.default_rng(number)) for number in range(4)]


def _walker(rng: np.random.Generator) -> Mesh:
    """Draw a standing or walking person at the origin."""
    height, yaw, stride = rng.uniform(1.55, 1.9), rng.uniform(0, 2 * np.pi), rng.uniform(0.0, 0.28)
    coat, legs = (CLOTHES[int(rng.integers(len(CLOTHES)))] for _ in range(2))
    return pedestrian_mesh(height, yaw, stride, coat, legs, rng)


def _cyclist(rng: np.random.Generator) -> Mesh:
    """Draw a person on a bicycle or a light motorcycle at the origin, along x."""
    coat, legs = (CLOTHES[int(rng.integers(len(CLOTHES)))] for _ in range(2))
    return cyclist_mesh(float(rng.choice([0.03, 0.11])), coat, legs, rng)


def _park(town: TownMap, block: Block, density: float, tree_scale: float, rng: np.random.Generator) -> list[Mesh]:
    """Draw the trees and bushes of a park."""
    low, high = block.inner(SIDEWALK_M + 1.5)
    count = int(np.prod(high - low) / 110.0 * min(density, 1.0))
    drawn = [rng.uniform(low, high) for _ in range(2 * count)]
    for_trees, for_bushes = (
        [town.world(uv, KERB_M) for uv in part if not town.near_ring(uv, SIDEWALK_M + 1.5)]
        for part in (drawn[:count], drawn[count:])
    )
    trees = [tree(place, tree_scale * rng.uniform(0.7, 1.3), rng) for place in for_trees]
    return trees + [bush(place, rng) for place in for_bushes]


def _island(town: TownMap, block: Block, rng: np.random.Generator) -> list[Mesh]:
    """Draw a tree and bushes on the island of a roundabout."""
    middle = (block.low_uv + block.high_uv) / 2
    angles, ways = rng.uniform(0, 2 * np.pi, 8), rng.uniform(0.2, 0.7, 8) * block.corner_m
    places = middle + ways[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    bushes = [bush(town.world(place, KERB_M), rng) for place in places]
    return [tree(town.world(middle, KERB_M), rng.uniform(0.6, 0.9), rng), *bushes]


def _border(town: TownMap, block: Block, rng: np.random.Generator) -> list[Mesh]:
    """Draw hedges, walls and fences behind the sidewalk, with gaps; in a car park they are low."""
    low, high = block.inner(SIDEWALK_M + 0.3)
    corners = [np.array([low[0], low[1]]), np.array([high[0], low[1]]), np.array([high[0], high[1]]), np.array([low[0], high[1]])]
    meshes: list[Mesh] = []
    for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
        pieces = max(2, int(np.linalg.norm(end - start) / 9.0))
        kind = int(rng.integers(4))
        for piece in range(pieces):
            if rng.uniform() < 0.62 and kind < 3:
                if town.near_ring(start + (end - start) * (piece + 0.5) / pieces, SIDEWALK_M + 5.0):
                    continue
                a, b = start + (end - start) * (piece + 0.03) / pieces, start + (end - start) * (piece + 0.97) / pieces
                meshes += fence(town, a, b, kind, 0.9 if block.use is BlockUse.CAR_PARK else float(rng.uniform(1.0, 2.0)))
    return meshes


def fence(town: TownMap, start: Float64, end: Float64, kind: int, height: float) -> list[Mesh]:
    """Make a hedge (kind 0), a wall (1) or a wooden fence (2) between two map positions (2,)."""
    a, b = town.world(start, KERB_M), town.world(end, KERB_M)
    length, yaw = float(np.linalg.norm((b - a)[:2])), float(np.arctan2(*(b - a)[1::-1]))
    middle = (a + b) / 2 + up(height / 2 - 0.15)
    if kind == 0:
        return [box(middle, (length, 0.9, height + 0.3), Material.LEAF, (0.05, 0.11, 0.03), yaw)]
    if kind == 1:
        return [box(middle, (length, 0.22, height + 0.3), Material.WALL, (0.50, 0.47, 0.42), yaw)]
    posts = [a + (b - a) * share for share in np.linspace(0, 1, max(2, int(length / 1.5)))]
    rails = [cylinder(a + up(z), b + up(z), 0.03, Material.WALL, (0.25, 0.16, 0.09), 4) for z in (0.45, 0.95)]
    return rails + [cylinder(post - up(0.2), post + up(1.1), 0.05, Material.WALL, (0.25, 0.16, 0.09), 4) for post in posts]


def _signals(town: TownMap) -> list[Mesh]:
    """Make a signal pole at each corner of every crossing."""
    meshes = []
    for column, across in enumerate(town.along_v):
        for row, street in enumerate(town.along_u):
            if not town.is_crossing(column, row) or (town.ring is not None and (column, row) == town.centre):
                continue
            for du, dv in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
                uv = np.array([across.offset_m + du * (across.half_m + 1.6), street.offset_m + dv * (street.half_m + 1.6)])
                foot = town.world(uv, KERB_M)
                pole = cylinder(foot, foot + up(3.6), 0.07, Material.METAL, _GREY, 8)
                meshes.append(
                    merge([pole, box(foot + up(3.1), (0.32, 0.32, 0.95), Material.TRIM, (0.05, 0.05, 0.05), town.warp.turn)])
                )
    return meshes
