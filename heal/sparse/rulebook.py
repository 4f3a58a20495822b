"""Rulebooks of sparse convolution: the pairs of input and output sites of every kernel cell (Yan et al., SECOND, Sensors 2018)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heal.sparse.sites import ConvGeometry, Sites, Triple, coords_of, indices_of, linear_index, search_sorted, stable_order


@dataclass(frozen=True)
class Pairs:
    """The pairs of sites that one cell of the kernel connects.

    Attributes:
        cell: index of the kernel's cell, with x fastest.
        source: (P,) int64 indices of input sites, unique and ascending.
        target: (P,) int64 indices of output sites, unique and ascending.
    """

    cell: int
    source: Tensor
    target: Tensor


@dataclass(frozen=True)
class Rulebook:
    """The connections of a convolution over given sites.

    Attributes:
        sites: sites of the output.
        pairs: pairs of all kernel cells but the centre; a cell may occur several times, with different sites each time.
        centre: index of the kernel cell that connects every site with itself; None if there is no such cell.
    """

    sites: Sites
    pairs: tuple[Pairs, ...]
    centre: int | None


# Pairs of one kernel cell in a block: the features of so many pairs stay in a core's own cache.
PAIRS_AT_ONCE = 1024


def rulebook(sites: Sites, geometry: ConvGeometry) -> Rulebook:
    """Return the rulebook of a convolution. It is made on the first call; equal layers over the same sites share it."""
    key = ("rulebook", geometry)
    if key not in sites.cache:
        make = _submanifold_rulebook if geometry.submanifold else _strided_rulebook
        sites.cache[key] = make(sites, geometry)
    rules: Rulebook = sites.cache[key]
    return rules


def _submanifold_rulebook(sites: Sites, geometry: ConvGeometry) -> Rulebook:
    """Pair neighbouring sites. Every pair of neighbours serves two opposite kernel cells, so half of the cells are searched."""
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
    return Rulebook(sites, _in_blocks(pairs, len(sites)), centre)


def _neighbours(keys: Tensor, step: int, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Find neighbours at the distances `step`, `step` + 1 and so on, `count` of them.

    Args:
        keys: (V,) linear indices of the sites, ascending.
        step: the first distance between linear indices.
        count: number of distances.

    Yields:
        For each distance the indices of the sites that have a neighbour at this distance, and the indices of these neighbours.
    """
    ended = torch.cat([keys, keys.new_full((1,), torch.iinfo(torch.int64).max)])
    wanted = keys + step
    place = search_sorted(keys, wanted) if step > 1 else torch.arange(1, len(ended), device=keys.device)
    for _ in range(count):
        found = ended.index_select(0, place) == wanted
        here = indices_of(found)
        yield here, place.index_select(0, here)
        # If the next cell in z is a site, it is the next one in the order of the keys.
        place, wanted = place + found, wanted + 1


def _strided_rulebook(sites: Sites, geometry: ConvGeometry) -> Rulebook:
    """Pair input sites with output cells; every output cell that an input site reaches is a site, whatever its value."""
    shape_zyx = geometry.output_shape(sites.shape_zyx)
    cells, sources, keys = zip(*_connections(sites, geometry, shape_zyx), strict=True)
    ordered, origin = stable_order(torch.cat(keys))
    new = torch.ones_like(ordered, dtype=torch.bool)
    torch.ne(ordered[1:], ordered[:-1], out=new[1:])
    targets = torch.empty_like(origin)
    targets[origin] = new.long().cumsum(0) - 1
    found = Sites(coords_of(ordered[new], shape_zyx), shape_zyx, sites.batch_size)
    parts = zip(cells, sources, torch.split(targets, [len(source) for source in sources]), strict=True)
    return Rulebook(found, _in_blocks([Pairs(*part) for part in parts], len(found)), None)


def _connections(sites: Sites, geometry: ConvGeometry, shape_zyx: Triple) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Find the output cells that input sites reach.

    Args:
        sites: input sites.
        geometry: the kernel.
        shape_zyx: cells of the output's grid.

    Yields:
        For each kernel cell its index, the indices of the input sites that it connects, and the linear indices of the output cells
        that it connects them with.
    """
    (nz, ny, nx), (_, ky, kx) = shape_zyx, geometry.kernel
    cloud, *zyx = sites.coords.unbind(1)
    in_z, in_y, in_x = (_targets_on_axis(zyx[axis], geometry, axis, sites.shape_zyx[axis], shape_zyx[axis]) for axis in range(3))
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


def _targets_on_axis(
    places: Tensor, geometry: ConvGeometry, axis: int, cells_in: int, cells_out: int
) -> list[tuple[Tensor, Tensor]]:
    """Find the output coordinates that sites reach on one axis.

    Args:
        places: (V,) coordinates of the sites on this axis.
        geometry: the kernel.
        axis: 0 for z, 1 for y, 2 for x.
        cells_in: input cells on this axis.
        cells_out: output cells on this axis.

    Returns:
        For each place in the kernel (V,) bool whether a site reaches an output cell, and (V,) the coordinate of that cell.
    """
    parts = []
    cells = torch.arange(cells_in, device=places.device)
    for place in range(geometry.kernel[axis]):
        shifted = cells + (geometry.padding[axis] - place)
        target = torch.div(shifted, geometry.stride[axis], rounding_mode="floor")
        inside = (target * geometry.stride[axis] == shifted) & (target >= 0) & (target < cells_out)
        parts.append((inside.index_select(0, places), target.index_select(0, places)))
    return parts


def _in_blocks(pairs: Sequence[Pairs], targets: int) -> tuple[Pairs, ...]:
    """Order the pairs by blocks of output sites: all kernel cells for the first block, then for the next; on a CPU only.

    Args:
        pairs: one entry for each kernel cell.
        targets: number of output sites.
    """
    total = sum(len(part.target) for part in pairs)
    blocks = math.ceil(total / (len(pairs) * PAIRS_AT_ONCE)) if pairs and pairs[0].target.device.type == "cpu" else 1
    if blocks < 2:
        return tuple(part for part in pairs if len(part.target))
    borders = torch.linspace(0, targets, blocks + 1).round().long()
    parts = [_split_at(part, borders) for part in pairs]
    return tuple(part for block in zip(*parts, strict=True) for part in block if len(part.target))


def _split_at(pairs: Pairs, borders: Tensor) -> list[Pairs]:
    """Split the pairs of a kernel cell at borders (B + 1,), which are indices of output sites, into B parts."""
    sizes = torch.searchsorted(pairs.target, borders).diff().tolist()
    parts = zip(torch.split(pairs.source, sizes), torch.split(pairs.target, sizes), strict=True)
    return [Pairs(pairs.cell, source, target) for source, target in parts]
