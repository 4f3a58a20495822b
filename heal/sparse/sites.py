"""Sites, the cells at which a sparse map has values, and the geometry of kernels: the data that all engines share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from heal.errors import UserError

Triple: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True)
class ConvGeometry:
    """The kernel of a convolution, in cells; all triples are in the order z, y, x.

    Attributes:
        kernel: edges of the kernel.
        stride: edges of an output cell divided by those of an input cell.
        padding: cells added on each side.
        submanifold: the output's sites are the input's sites; stride and padding then have no effect.
    """

    kernel: Triple
    stride: Triple = (1, 1, 1)
    padding: Triple = (0, 0, 0)
    submanifold: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for a sub-manifold kernel with an even edge, which has no centre."""
        if self.submanifold and any(edge % 2 == 0 for edge in self.kernel):
            raise UserError(f"a sub-manifold kernel needs odd edges, so that it has a centre; got {self.kernel}")

    @property
    def volume(self) -> int:
        """Number of cells of the kernel."""
        return self.kernel[0] * self.kernel[1] * self.kernel[2]

    def output_shape(self, shape_zyx: Triple) -> Triple:
        """Return the shape of the output's grid in z, y, x; ValueError if it has no cell."""
        if self.submanifold:
            return shape_zyx
        nz, ny, nx = ((shape_zyx[i] + 2 * self.padding[i] - self.kernel[i]) // self.stride[i] + 1 for i in range(3))
        if min(nz, ny, nx) < 1:
            raise UserError(f"a kernel of {self.kernel} cells does not fit into a grid of {shape_zyx}; use a larger grid")
        return nz, ny, nx


def require_height(shape_zyx: Triple, layers: Sequence[ConvGeometry], height_cells: int, extra: int = 0) -> None:
    """Raise UserError unless 3D convolutions leave a number of cells in z.

    Args:
        shape_zyx: voxels of the range in z, y, x.
        layers: kernels of the convolutions that change the height, in order.
        height_cells: the number of cells that is expected.
        extra: cells in z that the first layer's input has beyond the voxels.
    """
    shape: Triple = (shape_zyx[0] + extra, *shape_zyx[1:])
    for geometry in layers:
        shape = geometry.output_shape(shape)
    if shape[0] != height_cells:
        raise UserError(
            f"the grid's {shape_zyx[0]} voxels in z become {shape[0]} cells, but height_cells is {height_cells}; "
            f"set it to {shape[0]}, or choose another height of a voxel or number of stages"
        )


@dataclass(frozen=True)
class Sites:
    """The V cells with values of several clouds' grids.

    Attributes:
        coords: (V, 4) int64 index of the cloud, and the cell's z, y, x; unique. The torch engine needs the order of `linear_index`.
        shape_zyx: cells of a grid in z, y, x.
        batch_size: number of clouds.
        cache: results of engines for these sites, which layers of one resolution share.
    """

    coords: Tensor
    shape_zyx: Triple
    batch_size: int
    cache: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        """Return the number V of sites."""
        return len(self.coords)


@dataclass(frozen=True)
class SparseMap:
    """A map with features (V, C) at V sites and zeros elsewhere."""

    features: Tensor
    sites: Sites

    def to_bev(self) -> Tensor:
        """Return the dense map (batch_size, C * nz, ny, nx), with the height as part of the channels: channel c * nz + z."""
        (nz, ny, nx), channels = self.sites.shape_zyx, self.features.shape[1]
        cloud, z, y, x = self.sites.coords.unbind(1)
        canvas = self.features.new_zeros(self.sites.batch_size, ny, nx, channels, nz)
        canvas[cloud, y, x, :, z] = self.features
        return canvas.flatten(3).permute(0, 3, 1, 2)


def make_sparse(features: Tensor, coords: Tensor, shape_zyx: Triple, batch_size: int) -> SparseMap:
    """Make a sparse map from cells in any order.

    Args:
        features: (V, C) features of the cells.
        coords: (V, 4) integers, index of the cloud, and the cell's z, y, x.
        shape_zyx: cells of a grid in z, y, x.
        batch_size: number of clouds, with empty clouds counted.

    Raises:
        ValueError: a cell lies outside the grid or is given twice.
    """
    coords = coords.long()
    limits = torch.tensor((batch_size, *shape_zyx), device=coords.device)
    if bool(((coords < 0) | (coords >= limits)).any()):
        raise ValueError(f"cells must lie in {batch_size} grids of {shape_zyx} cells (z, y, x), but some lie outside")
    keys, order = stable_order(linear_index(coords, shape_zyx))
    if bool((keys[1:] == keys[:-1]).any()):
        raise ValueError("every cell may be given once, but some are given twice; merge their values first")
    return SparseMap(features.index_select(0, order), Sites(coords.index_select(0, order), shape_zyx, batch_size))


def linear_index(coords: Tensor, shape_zyx: Triple, margin: Triple = (0, 0, 0)) -> Tensor:
    """Return one number (V,) for each of the cells (V, 4), ascending by cloud, y, x, z.

    With a margin of empty cells around every grid, a step of up to so many cells never leads into another column, row or cloud.
    """
    nz, ny, nx = (cells + 2 * rim for cells, rim in zip(shape_zyx, margin, strict=True))
    cloud, z, y, x = coords.unbind(1)
    return ((cloud * ny + (y + margin[1])) * nx + (x + margin[2])) * nz + (z + margin[0])


def coords_of(index: Tensor, shape_zyx: Triple) -> Tensor:
    """Return the cells (V, 4) of linear indices (V,) that were computed without a margin."""
    nz, ny, nx = shape_zyx
    column, z = _divmod(index, nz)
    row, x = _divmod(column, nx)
    cloud, y = _divmod(row, ny)
    return torch.stack([cloud, z, y, x], dim=1)


def stable_order(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Return the non-negative keys (V,) in ascending order, and the original index (V,) of each; equal keys keep their order."""
    # Key and index are packed into one number: sorting numbers takes a tenth of the time of sorting indices.
    bits = len(keys).bit_length()
    both = _sorted((keys << bits) | torch.arange(len(keys), device=keys.device))
    return both >> bits, both & ((1 << bits) - 1)


def indices_of(mask: Tensor) -> Tensor:
    """Return the indices at which a mask (V,) is true."""
    return torch.from_numpy(np.flatnonzero(mask.numpy())) if mask.device.type == "cpu" else mask.nonzero().squeeze(1)


def search_sorted(keys: Tensor, wanted: Tensor) -> Tensor:
    """Return for each of the wanted numbers (W,) how many of the ascending keys (V,) are smaller."""
    if keys.device.type == "cpu":
        return torch.from_numpy(np.searchsorted(keys.numpy(), wanted.numpy()))
    return torch.searchsorted(keys, wanted)


def _sorted(values: Tensor) -> Tensor:
    """Return numbers (V,) in ascending order."""
    # numpy sorts integers with vector instructions where the processor has them; torch takes ten times as long.
    return torch.from_numpy(np.sort(values.numpy())) if values.device.type == "cpu" else values.sort().values


def _divmod(values: Tensor, divisor: int) -> tuple[Tensor, Tensor]:
    """Return quotients and remainders of non-negative numbers."""
    quotient = torch.div(values, divisor, rounding_mode="trunc")
    return quotient, values - quotient * divisor
