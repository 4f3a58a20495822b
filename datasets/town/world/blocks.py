"""The blocks between the streets: where they lie, what they are used for, and their surface."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from heal.datasets.town.geometry.materials import Material
from heal.datasets.town.geometry.mesh import Mesh, grid_mesh, merge, quads
from heal.datasets.town.presets import TownPreset
from heal.datasets.town.world.streets import KERB_M, SIDEWALK_M, Street, TownMap
from heal.types import Float64

CORNER_M = 4.0
_CELL_M = 5.0


class BlockUse(IntEnum):
    """What stands on a block."""

    BUILT = 0
    HOUSES = 1
    PARK = 2
    CAR_PARK = 3


@dataclass(frozen=True)
class Block:
    """A block: number, use, and the rectangle from kerb to kerb in map coordinates, (2,) lower and (2,) upper corner."""

    number: int
    use: BlockUse
    low_uv: Float64
    high_uv: Float64

    @property
    def size_m(self) -> Float64:
        """(2,) extent in u and v."""
        return self.high_uv - self.low_uv

    def inner(self, margin_m: float) -> tuple[Float64, Float64]:
        """The rectangle `margin_m` inside of the kerb."""
        return self.low_uv + margin_m, self.high_uv - margin_m


def make_blocks(town: TownMap, preset: TownPreset, rng: np.random.Generator) -> tuple[Block, ...]:
    """All blocks, those behind the outermost streets included."""
    built_share = rng.uniform(*preset.built_share)
    spans_u, spans_v = _spans(town.along_v, town.reach_m), _spans(town.along_u, town.reach_m)
    blocks: list[Block] = []
    for low_u, high_u in spans_u:
        for low_v, high_v in spans_v:
            use = BlockUse.BUILT
            if rng.uniform() > built_share:
                use = BlockUse(int(rng.choice([BlockUse.HOUSES, BlockUse.PARK, BlockUse.CAR_PARK], p=[0.55, 0.27, 0.18])))
            blocks.append(Block(len(blocks), use, np.array([low_u, low_v]), np.array([high_u, high_v])))
    return tuple(blocks)


def _spans(streets: tuple[Street, ...], reach_m: float) -> list[tuple[float, float]]:
    edges = [-reach_m]
    for street in streets:
        edges += [street.offset_m - street.half_m, street.offset_m + street.half_m]
    edges.append(reach_m)
    return list(zip(edges[::2], edges[1::2], strict=True))


def ground_mesh(town: TownMap, blocks: tuple[Block, ...]) -> Mesh:
    """The road surface under everything, and the raised blocks with their kerbs."""
    ticks = np.linspace(-town.reach_m, town.reach_m, int(2 * town.reach_m / _CELL_M) + 1)
    uv = np.stack(np.meshgrid(ticks, ticks, indexing="ij"), axis=2)
    # Under a block the road lies a little lower, so that two surfaces never share a place.
    road = grid_mesh(town.world(uv), uv, Material.ROAD)
    return merge([road, *(part for block in blocks for part in _block_surface(town, block))])


def _block_surface(town: TownMap, block: Block) -> list[Mesh]:
    us, vs = (_ticks(low, high) for low, high in zip(block.low_uv, block.high_uv, strict=True))
    uv = _round_corners(np.stack(np.meshgrid(us, vs, indexing="ij"), axis=2), block)
    top = town.world(uv, KERB_M)
    rim_uv = np.concatenate([uv[:-1, 0], uv[-1, :-1], uv[:0:-1, -1], uv[0, :0:-1]])
    after = np.roll(rim_uv, -1, axis=0)
    kerb = [town.world(rim_uv, -0.05), town.world(after, -0.05), town.world(after, KERB_M), town.world(rim_uv, KERB_M)]
    return [
        grid_mesh(top, uv, Material.BLOCK, style=block.number),
        quads(np.stack(kerb, axis=1), Material.KERB, (0.45, 0.45, 0.44)),
    ]


def _ticks(low: float, high: float) -> Float64:
    """Grid lines that are close together in the rounded corners and at most a cell apart between them."""
    middle = np.linspace(low + CORNER_M, high - CORNER_M, max(2, int(np.ceil((high - low - 2 * CORNER_M) / _CELL_M)) + 1))
    corner = CORNER_M * np.linspace(0, 1, 4, endpoint=False)
    return np.concatenate([low + corner, middle, high - corner[::-1]])


def _round_corners(uv: Float64, block: Block) -> Float64:
    """Move grid points in the four corner squares so that each square becomes a quarter disc."""
    inner_low, inner_high = block.low_uv + CORNER_M, block.high_uv - CORNER_M
    base = np.clip(uv, inner_low, inner_high)
    offset = (uv - base) / CORNER_M
    rounded = offset * np.sqrt(1 - offset[..., ::-1] ** 2 / 2)
    moved: Float64 = base + rounded * CORNER_M
    return moved


def lots(block: Block, rng: np.random.Generator, largest_m: float, margin_m: float = SIDEWALK_M) -> list[tuple[Float64, Float64]]:
    """Cut a block, less its sidewalk, into rectangular lots with edges of at most about `largest_m`."""
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
    return done
