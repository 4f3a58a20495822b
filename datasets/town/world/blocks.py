"""The blocks between the streets: their places, uses and surfaces, and the lots that buildings stand on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from heal.datasets.town.geometry.materials import Material
from heal.datasets.town.geometry.mesh import Mesh, grid_mesh, merge, quads
from heal.datasets.town.presets import TownPreset
from heal.datasets.town.world.streets import KERB_M, SIDEWALK_M, Street, TownMap
from heal.types import Float64

CORNER_M = 4.0  # radius of a block's corners
_CELL_M = 5.0  # edge of the cells of the ground's mesh


class BlockUse(IntEnum):
    """The use of a block."""

    BUILT = 0
    HOUSES = 1
    PARK = 2
    CAR_PARK = 3


@dataclass(frozen=True)
class Block:
    """A block between streets.

    Attributes:
        number: position of the block in the town's list.
        use: the use of the block.
        low_uv: (2,) lower corner of the rectangle from kerb to kerb, in map coordinates.
        high_uv: (2,) upper corner of the rectangle.
        corner_m: radius of its corners.
        pavement_m: width of the pavement along its kerb.
        ring_m: radius of the roundabout around the map's origin that cuts a corner off; 0 for none.
    """

    number: int
    use: BlockUse
    low_uv: Float64
    high_uv: Float64
    corner_m: float = CORNER_M
    pavement_m: float = SIDEWALK_M
    ring_m: float = 0.0

    @property
    def size_m(self) -> Float64:
        """Extent (2,) in u and in v."""
        return self.high_uv - self.low_uv

    def inner(self, margin_m: float) -> tuple[Float64, Float64]:
        """Return the lower and upper corner of the rectangle `margin_m` inside the kerb."""
        return self.low_uv + margin_m, self.high_uv - margin_m

    def without_corner(self, uv: Float64) -> Float64:
        """Move map positions (..., 2) on the roundabout to its outer kerb."""
        away = np.linalg.norm(uv, axis=-1, keepdims=True)
        moved: Float64 = np.where(away < self.ring_m, uv * (self.ring_m / np.maximum(away, 1e-9)), uv)
        return moved


def make_blocks(town: TownMap, preset: TownPreset, rng: np.random.Generator) -> tuple[Block, ...]:
    """Draw the uses of all blocks, including the blocks outside the outermost streets."""
    built_share = rng.uniform(*preset.built_share)
    spans_u, spans_v = _spans(town.along_v, town.reach_m), _spans(town.along_u, town.reach_v_m)
    blocks: list[Block] = []
    for number, (low_u, high_u) in enumerate(spans_u):
        for low_v, high_v in spans_v:
            if number > 0 and town.along_v[number - 1].end_m < low_v:
                continue  # no street parts this block from the one before it
            joined = number < len(town.along_v) and town.along_v[number].end_m < low_v
            use = BlockUse.BUILT
            if rng.uniform() > built_share:
                use = BlockUse(int(rng.choice([BlockUse.HOUSES, BlockUse.PARK, BlockUse.CAR_PARK], p=[0.55, 0.27, 0.18])))
            low, high = np.array([low_u, low_v]), np.array([spans_u[number + 1][1] if joined else high_u, high_v])
            blocks.append(Block(len(blocks), use, low, high, ring_m=_ring_that_cuts(town, low, high)))
    if town.ring is not None:
        half = np.full(2, town.ring.inner_m)
        blocks.append(Block(len(blocks), BlockUse.PARK, -half, half, corner_m=town.ring.inner_m, pavement_m=0.0))
    return tuple(blocks)


def _ring_that_cuts(town: TownMap, low: Float64, high: Float64) -> float:
    """Return the outer radius of the roundabout if it reaches into a rectangle; else 0."""
    nearest = np.clip(0.0, low, high)
    return town.ring.outer_m if town.ring is not None and town.near_ring(nearest, 0.0) else 0.0


def _spans(streets: tuple[Street, ...], reach_m: float) -> list[tuple[float, float]]:
    """Return the beginnings and ends of the gaps between parallel streets, from -`reach_m` to `reach_m`."""
    edges = [-reach_m]
    for street in streets:
        edges += [street.offset_m - street.half_m, street.offset_m + street.half_m]
    edges.append(reach_m)
    return list(zip(edges[::2], edges[1::2], strict=True))


def ground_mesh(town: TownMap, blocks: tuple[Block, ...]) -> Mesh:
    """Make the mesh of the road surface, and of the raised blocks with their kerbs."""
    us, vs = (np.linspace(-reach, reach, int(2 * reach / _CELL_M) + 1) for reach in (town.reach_m, town.reach_v_m))
    uv = np.stack(np.meshgrid(us, vs, indexing="ij"), axis=2)
    # The road lies KERB_M below the surface of the blocks, so that no two surfaces coincide.
    road = grid_mesh(town.world(uv), uv, Material.ROAD)
    return merge([road, *(part for block in blocks for part in _block_surface(town, block))])


def _block_surface(town: TownMap, block: Block) -> list[Mesh]:
    """Make the meshes of a block's surface and of its kerb."""
    us, vs = (_ticks(low, high, block.corner_m) for low, high in zip(block.low_uv, block.high_uv, strict=True))
    uv = block.without_corner(_round_corners(np.stack(np.meshgrid(us, vs, indexing="ij"), axis=2), block))
    top = town.world(uv, KERB_M)
    rim_uv = np.concatenate([uv[:-1, 0], uv[-1, :-1], uv[:0:-1, -1], uv[0, :0:-1]])
    after = np.roll(rim_uv, -1, axis=0)
    kerb = [town.world(rim_uv, -0.05), town.world(after, -0.05), town.world(after, KERB_M), town.world(rim_uv, KERB_M)]
    return [
        grid_mesh(top, uv, Material.BLOCK, style=block.number),
        quads(np.stack(kerb, axis=1), Material.KERB, (0.45, 0.45, 0.44)),
    ]


def _ticks(low: float, high: float, corner_m: float) -> Float64:
    """Return grid lines from `low` to `high`: dense in the rounded corners, at most a cell apart between the corners."""
    between = high - low - 2 * corner_m
    middle = np.linspace(low + corner_m, high - corner_m, max(2, int(np.ceil(between / _CELL_M)) + 1))
    corner = corner_m * np.linspace(0, 1, 4, endpoint=False)
    return np.concatenate([low + corner, middle if between > 0 else middle[:1], high - corner[::-1]])


def _round_corners(uv: Float64, block: Block) -> Float64:
    """Move the grid points (n, m, 2) in a block's four corner squares so that each square becomes a quarter disc."""
    inner_low, inner_high = block.low_uv + block.corner_m, block.high_uv - block.corner_m
    base = np.clip(uv, inner_low, inner_high)
    offset = (uv - base) / block.corner_m
    rounded = offset * np.sqrt(1 - offset[..., ::-1] ** 2 / 2)
    moved: Float64 = base + rounded * block.corner_m
    return moved


def split_into_lots(
    block: Block, rng: np.random.Generator, largest_m: float, margin_m: float = SIDEWALK_M
) -> list[tuple[Float64, Float64]]:
    """Cut a block without its sidewalk into rectangular lots with edges of at most about `largest_m`.

    Returns:
        Lower and upper corner (2,) of each lot in map coordinates.
    """
    pending, done = [block.inner(margin_m)], []
    while pending:
        low, high = pending.pop()
        size = high - low
        axis = int(size[1] > size[0])
        if size[axis] < largest_m or (size[axis] < 1.5 * largest_m and rng.uniform() < 0.4):
            done.append((low, high))
            continue
        cut = low[axis] + size[axis] * rng.uniform(0.38, 0.62)
        first_high, second_low = high.copy(), low.copy()
        first_high[axis], second_low[axis] = cut, cut
        pending += [(low, first_high), (second_low, high)]
    return [lot for lot in done if block.ring_m == 0 or np.linalg.norm(np.clip(0.0, *lot)) > block.ring_m + margin_m]
