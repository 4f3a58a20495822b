"""Rulebooks of sparse convolution: which site feeds which, for every cell of the kernel (Yan et al., SECOND, Sensors 2018)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heal.sparse.sites import ConvGeometry, Sites, Triple, coords_of, indices_of, linear_index, places_of, stable_order


@dataclass(frozen=True)
class Pairs:
    """What one cell of the kernel connects. No site occurs twice in `source` or in `target`, and both ascend.

    Attributes:
        cell: the kernel's cell, counted with x fastest.
        source: (P,) int64 indices of input sites.
        target: (P,) int64 indices of output sites.
    """

    cell: int
    source: Tensor
    target: Tensor


@dataclass(frozen=True)
class Rulebook:
    """A convolution over given sites.

    Attributes:
        sites: of the output.
        pairs: what the kernel's cells connect, but for the centre; a cell may come several times, for other sites each time.
        centre: the cell that connects every site with itself, if there is one.
    """

    sites: Sites
    pairs: tuple[Pairs, ...]
    centre: int | None


# So many pairs of one cell at a time keep the features that they touch in a core's own cache.
PAIRS_AT_ONCE = 1024


def rulebook(sites: Sites, geometry: ConvGeometry) -> Rulebook:
    """The rulebook of a convolution, made when it is first asked for; equal layers over the same sites share it."""
    key = ("rulebook", geometry)
    if key not in sites.cache:
        make = _submanifold if geometry.submanifold else _strided
        sites.cache[key] = make(sites, geometry)
    book: Rulebook = sites.cache[key]
    return book


def _submanifold(sites: Sites, geometry: ConvGeometry) -> Rulebook:
    """Pairs of neighbouring sites. Every pair serves two cells of the kernel that lie opposite: half the search is enough."""
    _, ky, kx = geometry.kernel
    rz, ry, rx = (edge // 2 for edge in geometry.kernel)
    column, row = sites.shape_zyx[0] + 2 * rz, sites.shape_zyx[2] + 2 * rx
    keys = linear_index(sites.coords, sites.shape_zyx, (rz, ry, rx))
    centre, pairs = geometry.volume // 2, []
    for dy, dx in itertools.product(range(ry + 1), range(-rx, rx + 1)):
        if (dy, dx) < (0, 0):
            continue
        first = 1 if (dy, dx) == (0, 0) else -rz
        for dz, (here, there) in enumerate(_neighbours(keys, (dy * row + dx) * column + first, rz + 1 - first), first):
            ahead = (dz * ky + dy) * kx + dx
            pairs += [Pairs(centre + ahead, there, here), Pairs(centre - ahead, here, there)]
    return Rulebook(sites, _by_place(pairs, len(sites)), centre)


def _neighbours(keys: Tensor, step: int, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """For each of `count` steps that grow by one: the indices of sites that have a site so far ahead, and those sites' indices."""
    ended = torch.cat([keys, keys.new_full((1,), torch.iinfo(torch.int64).max)])
    wanted = keys + step
    place = places_of(wanted, keys) if step > 1 else torch.arange(1, len(ended), device=keys.device)
    for _ in range(count):
        found = ended.index_select(0, place) == wanted
        here = indices_of(found)
        yield here, place.index_select(0, here)
        # The cell above, if it is a site, comes next.
        place, wanted = place + found, wanted + 1


def _strided(sites: Sites, geometry: ConvGeometry) -> Rulebook:
    """Every output cell that an input site touches is a site, whatever its value."""
    shape_zyx = geometry.output_shape(sites.shape_zyx)
    cells, sources, keys = zip(*_touched(sites, geometry, shape_zyx), strict=True)
    ordered, origin = stable_order(torch.cat(keys))
    new = torch.ones_like(ordered, dtype=torch.bool)
    torch.ne(ordered[1:], ordered[:-1], out=new[1:])
    targets = torch.empty_like(origin)
    targets[origin] = new.long().cumsum(0) - 1
    found = Sites(coords_of(ordered[new], shape_zyx), shape_zyx, sites.batch_size)
    parts = zip(cells, sources, torch.split(targets, [len(source) for source in sources]), strict=True)
    return Rulebook(found, _by_place([Pairs(*part) for part in parts], len(found)), None)


def _touched(sites: Sites, geometry: ConvGeometry, shape_zyx: Triple) -> Iterator[tuple[int, Tensor, Tensor]]:
    """For each cell of the kernel: the input sites that it connects, and the linear indices of the output cells that they feed."""
    (nz, ny, nx), (_, ky, kx) = shape_zyx, geometry.kernel
    cloud, *zyx = sites.coords.unbind(1)
    in_z, in_y, in_x = (_along(zyx[axis], geometry, axis, sites.shape_zyx[axis], shape_zyx[axis]) for axis in range(3))
    for y, (inside, target) in enumerate(in_y):
        rows = indices_of(inside)
        row = (cloud * ny + target).index_select(0, rows)
        for x, (inside, target) in enumerate(in_x):
            kept = indices_of(inside.index_select(0, rows))
            columns = rows.index_select(0, kept)
            column = row.index_select(0, kept) * nx + target.index_select(0, columns)
            for z, (inside, target) in enumerate(in_z):
                kept = indices_of(inside.index_select(0, columns))
                source = columns.index_select(0, kept)
                yield (z * ky + y) * kx + x, source, column.index_select(0, kept) * nz + target.index_select(0, source)


def _along(places: Tensor, geometry: ConvGeometry, axis: int, cells_in: int, cells_out: int) -> list[tuple[Tensor, Tensor]]:
    """On one axis, for each place in the kernel: whether it brings a site onto an output cell (V,), and which one that is (V,)."""
    parts = []
    cells = torch.arange(cells_in, device=places.device)
    for place in range(geometry.kernel[axis]):
        shifted = cells + (geometry.padding[axis] - place)
        target = torch.div(shifted, geometry.stride[axis], rounding_mode="floor")
        inside = (target * geometry.stride[axis] == shifted) & (target >= 0) & (target < cells_out)
        parts.append((inside.index_select(0, places), target.index_select(0, places)))
    return parts


def _by_place(pairs: Sequence[Pairs], targets: int) -> tuple[Pairs, ...]:
    """The same pairs, all cells of the kernel for some of the output sites, then for the next ones; not on a GPU."""
    total = sum(len(part.target) for part in pairs)
    blocks = math.ceil(total / (len(pairs) * PAIRS_AT_ONCE)) if pairs and pairs[0].target.device.type == "cpu" else 1
    if blocks < 2:
        return tuple(part for part in pairs if len(part.target))
    borders = torch.linspace(0, targets, blocks + 1).round().long()
    parts = [_cut(part, borders) for part in pairs]
    return tuple(part for block in zip(*parts, strict=True) for part in block if len(part.target))


def _cut(pairs: Pairs, borders: Tensor) -> list[Pairs]:
    """The pairs between each two borders of their output sites, which are in ascending order."""
    sizes = torch.searchsorted(pairs.target, borders).diff().tolist()
    parts = zip(torch.split(pairs.source, sizes), torch.split(pairs.target, sizes), strict=True)
    return [Pairs(pairs.cell, source, target) for source, target in parts]
