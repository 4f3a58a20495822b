"""Meshes of green belts along the streets, and of railings between their directions, as at the crossings of large cities."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from heal.datasets.town.geometry.mesh import Mesh
from heal.datasets.town.presets import TownPreset
from heal.datasets.town.world.blocks import Block, BlockUse
from heal.datasets.town.world.furniture import bush, fence, tree
from heal.datasets.town.world.streets import KERB_M, SIDEWALK_M, Street, TownMap
from heal.types import Float64

_WITHIN_M = 100.0  # of the middle of the town
_CORNER_M = 9.0  # free of plants and railings at a crossing, behind the edge of the other street
_TREE_STEP_M = 5.0


def make_planting(town: TownMap, blocks: tuple[Block, ...], preset: TownPreset, rng: np.random.Generator) -> list[Mesh]:
    """Draw the green belts and railings of a town; none of them is labelled."""
    meshes: list[Mesh] = []
    if preset.belt_share > 0:
        for block in blocks:
            for axis in (0, 1):
                for low_side in (True, False):
                    if rng.uniform() < preset.belt_share:
                        meshes += _belt(town, block, axis, low_side, preset.tree_scale, rng)
    if preset.railing_share > 0:
        for street in (*town.along_u, *town.along_v):
            if rng.uniform() < preset.railing_share:
                meshes += _railing(town, street)
    return meshes


def _belt(town: TownMap, block: Block, axis: int, low_side: bool, tree_scale: float, rng: np.random.Generator) -> list[Mesh]:
    """Draw trees, bushes and a hedge along one side of a block, which runs along `axis`; beside houses the belt is narrow."""
    edge, sign = (block.low_uv, 1.0) if low_side else (block.high_uv, -1.0)
    depth = 1.5 if block.use is BlockUse.BUILT else float(rng.uniform(3.0, 10.0))
    density, hedge = float(rng.uniform(0.5, 1.0)), rng.uniform() < 0.6
    meshes: list[Mesh] = []
    for along in np.arange(block.low_uv[axis] + _CORNER_M, block.high_uv[axis] - _CORNER_M, _TREE_STEP_M):

        def place(start: float, across: float, along: float = along) -> Float64:
            uv = np.empty(2)
            uv[axis], uv[1 - axis] = along + start, edge[1 - axis] + sign * across
            return uv

        if np.abs(place(0.0, 0.0)).max() > _WITHIN_M:
            continue
        for _ in range(1 + (depth > 5.0)):
            if rng.uniform() < density:
                uv = place(rng.uniform(0, _TREE_STEP_M), SIDEWALK_M - 1.0 + rng.uniform(0, depth))
                meshes.append(tree(town.world(uv, KERB_M), tree_scale * rng.uniform(0.5, 1.1), rng))
        if rng.uniform() < density:
            meshes.append(bush(town.world(place(rng.uniform(0, _TREE_STEP_M), rng.uniform(0.8, SIDEWALK_M)), KERB_M), rng))
        if hedge and rng.uniform() < 0.8:
            meshes += fence(town, place(0.0, 1.0), place(0.94 * _TREE_STEP_M, 1.0), 0, float(rng.uniform(0.5, 1.1)))
    return meshes


def _railing(town: TownMap, street: Street) -> list[Mesh]:
    """Make a railing on the centre line of a street, with gaps at the crossings."""
    crossings = town.along_v if street.axis == 0 else town.along_u
    meshes: list[Mesh] = []
    for before, after in pairwise(crossings):
        start = before.offset_m + before.half_m + _CORNER_M
        end = after.offset_m - after.half_m - _CORNER_M
        for along in np.arange(start, end - 8.0, 8.0):
            meshes += fence(town, street.uv(along, 0.0), street.uv(along + 8.0, 0.0), 2, 1.1)
    return meshes
