"""Rulebooks of sparse convolution: which site feeds which, for every cell of the kernel (Yan et al., SECOND, Sensors 2018)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from heal.sparse_sites import ConvGeometry, Sites, Triple, coords_of, linear_index, stable_order


@dataclass(frozen=True)
class Pairs:
    """What one cell of the kernel connects; no site occurs twice in `source`, none twice in `target`.

    Attributes:
        cell: the kernel's cell, counted with x fastest.
        source: (P,) int64 indices of input sites.
        target: (P,) int64 indices of output sites.
    """

    cell: int
    source: Tensor
    target: Tensor

    def reversed(self) -> Pairs:
        """From the output to the input, as gradients go."""
        return Pairs(self.cell, self.target, self.source)


@dataclass(frozen=True)
class Rulebook:
    """A convolution over given sites.

    Attributes:
        sites: of the output.
        pairs: of all cells of the kernel that connect anything, but for the centre.
        centre: the cell that connects every site with itself, if there is one.
    """

    sites: Sites
    pairs: tuple[Pairs, ...]
    centre: int | None


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
    rz, ry, rx = (edge // 2 for edge in geometry.kernel)
    _, ny, nx = (cells + 2 * rim for cells, rim in zip(sites.shape_zyx, (rz, ry, rx), strict=True))
    keys = linear_index(sites.coords, sites.shape_zyx, (rz, ry, rx))
    centre, pairs = geometry.volume // 2, []
    for dz, dy in itertools.product(range(rz + 1), range(-ry, ry + 1)):
        if (dz, dy) < (0, 0):
            continue
        first = 1 if (dz, dy) == (0, 0) else -rx
        for dx, (here, there) in enumerate(_neighbours(keys, (dz * ny + dy) * nx + first, rx + 1 - first), first):
            ahead = (dz * geometry.kernel[1] + dy) * geometry.kernel[2] + dx
            pairs += [Pairs(centre + ahead, there, here), Pairs(centre - ahead, here, there)] if len(here) else []
    return Rulebook(sites, tuple(pairs), centre)


def _neighbours(keys: Tensor, step: int, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """For each of `count` steps that grow by one: the indices of sites that have a site so far ahead, and those sites' indices."""
    ended = torch.cat([keys, keys.new_full((1,), torch.iinfo(torch.int64).max)])
    wanted = keys + step
    place = torch.searchsorted(keys, wanted)
    for _ in range(count):
        found = ended.index_select(0, place) == wanted
        here = found.nonzero().squeeze(1)
        yield here, place.index_select(0, here)
        # A cell's right neighbour, if it is a site, stands right behind it.
        place, wanted = place + found, wanted + 1


def _strided(sites: Sites, geometry: ConvGeometry) -> Rulebook:
    """Every output cell that an input site touches is a site, whatever its value."""
    shape_zyx = geometry.output_shape(sites.shape_zyx)
    cells, sources, keys = [], [], []
    for cell, source, key in _touched(sites, geometry, shape_zyx):
        cells.append(cell)
        sources.append(source)
        keys.append(key)
    ordered, origin = stable_order(torch.cat(keys))
    new = torch.ones_like(ordered, dtype=torch.bool)
    torch.ne(ordered[1:], ordered[:-1], out=new[1:])
    targets = torch.empty_like(origin)
    targets[origin] = new.cumsum(0) - 1
    found = Sites(coords_of(ordered[new], shape_zyx), shape_zyx, sites.batch_size)
    parts = zip(cells, sources, targets.split([len(source) for source in sources]), strict=True)
    return Rulebook(found, tuple(Pairs(*part) for part in parts if len(part[1])), None)


def _touched(sites: Sites, geometry: ConvGeometry, shape_zyx: Triple) -> Iterator[tuple[int, Tensor, Tensor]]:
    """For each cell of the kernel: the input sites that it connects, and the linear indices of the output cells that they feed."""
    (nz, ny, nx), (kz, ky, kx) = shape_zyx, geometry.kernel
    cloud = sites.coords[:, 0]
    for z in range(kz):
        inside, target = _along(sites, geometry, shape_zyx, 0, z)
        layers = inside.nonzero().squeeze(1)
        layer = (cloud * nz + target).index_select(0, layers)
        for y in range(ky):
            inside, target = _along(sites, geometry, shape_zyx, 1, y)
            kept = inside.index_select(0, layers).nonzero().squeeze(1)
            rows = layers.index_select(0, kept)
            row = layer.index_select(0, kept) * ny + target.index_select(0, rows)
            for x in range(kx):
                inside, target = _along(sites, geometry, shape_zyx, 2, x)
                kept = inside.index_select(0, rows).nonzero().squeeze(1)
                source = rows.index_select(0, kept)
                yield (z * ky + y) * kx + x, source, row.index_select(0, kept) * nx + target.index_select(0, source)


def _along(sites: Sites, geometry: ConvGeometry, shape_zyx: Triple, axis: int, cell: int) -> tuple[Tensor, Tensor]:
    """On one axis: whether a cell of the kernel brings an input coordinate onto an output cell, and its coordinate there."""
    shifted = sites.coords[:, 1 + axis] + (geometry.padding[axis] - cell)
    target = torch.div(shifted, geometry.stride[axis], rounding_mode="floor")
    inside = (target * geometry.stride[axis] == shifted) & (target >= 0) & (target < shape_zyx[axis])
    return inside, target
