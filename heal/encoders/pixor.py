"""PIXOR: a picture of a cloud from above, with the occupancy of height slices and the reflectance (Yang et al., CVPR 2018).

The encoder is the input of section 3.1 and the first block of the backbone of section 3.2; the residual blocks that follow are the
agent's backbone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from heal.config import config
from heal.encoders.lidar import lidar_clouds
from heal.encoders.voxelize import VoxelGrid, points_inside
from heal.errors import UserError
from heal.grid import BevGrid
from heal.types import AgentFrame, Float32, Int64


@config
class PixorConfig:
    """The encoder's settings; the defaults are the paper's (sections 3.2 and 4.1).

    Attributes:
        kind: names this encoder.
        cell_m: edges of a cell in x and y.
        slice_m: height of a slice; the slices fill the alliance's range in z.
        channels: channels of each 3x3 convolution of the first block; the last number is that of the map.
    """

    senses: ClassVar[str] = "lidar"
    kind: Literal["pixor"] = "pixor"
    cell_m: tuple[float, float] = (0.1, 0.1)
    slice_m: float = 0.1
    channels: tuple[int, ...] = (32, 32)

    def __post_init__(self) -> None:
        """Raise UserError if there is no convolution."""
        if not self.channels:
            raise UserError("channels: expected the width of at least one convolution, got none")

    @property
    def out_channels(self) -> int:
        """Channels of the map."""
        return self.channels[-1]


@dataclass(frozen=True)
class Rasters:
    """The pictures of several clouds from above, by the cells that have points.

    Attributes:
        occupied: (K,) int64 flat index into (cloud, slice, y, x) of each cell with a point.
        column: (L,) int64 flat index into (cloud, y, x) of each column of cells with a point.
        reflectance: (L,) float32 mean intensity of the column's points.
        clouds: number of clouds, with empty clouds counted.
    """

    occupied: Tensor
    column: Tensor
    reflectance: Tensor
    clouds: int

    def to(self, device: torch.device | str) -> Rasters:
        """Return the pictures on a device."""
        return Rasters(self.occupied.to(device), self.column.to(device), self.reflectance.to(device), self.clouds)

    def dense(self, slices: int, ny: int, nx: int) -> Tensor:
        """Return the pictures (clouds, slices + 1, ny, nx): 1 where a slice has a point, and last the reflectance; else 0."""
        occupancy = self.reflectance.new_zeros(self.clouds * slices * ny * nx)
        occupancy[self.occupied] = 1.0
        reflectance = self.reflectance.new_zeros(self.clouds * ny * nx)
        reflectance[self.column] = self.reflectance
        return torch.cat([occupancy.view(self.clouds, slices, ny, nx), reflectance.view(self.clouds, 1, ny, nx)], dim=1)


def rasterize(clouds: Sequence[Float32], grid: VoxelGrid) -> Rasters:
    """Rasterize clouds (N, 4) over a grid whose layers in z are the slices; the limits on voxels have no effect.

    The paper leaves open how the intensities of several points become the reflectance of a column; here it is their mean.
    """
    cells = int(np.prod(grid.shape_zyx))
    area = cells // grid.shape_zyx[0]
    parts = [_rasterize(cloud, grid, area) for cloud in clouds]
    occupied = [part[0] + i * cells for i, part in enumerate(parts)]
    column = [part[1] + i * area for i, part in enumerate(parts)]
    reflectance = np.concatenate([part[2] for part in parts])
    return Rasters(
        torch.from_numpy(np.concatenate(occupied)),
        torch.from_numpy(np.concatenate(column)),
        torch.from_numpy(reflectance),
        len(clouds),
    )


def _rasterize(cloud: Float32, grid: VoxelGrid, area: int) -> tuple[Int64, Int64, Float32]:
    """Return a cloud's occupied cells, its columns with points, and the mean intensity of each of these columns."""
    inside, cell = points_inside(cloud, grid)
    column = cell % area
    count = np.bincount(column, minlength=area)
    total = np.bincount(column, weights=cloud[inside, 3], minlength=area)
    columns = np.flatnonzero(count)
    return np.unique(cell), columns, (total[columns] / count[columns]).astype(np.float32)


class Pixor(nn.Module):
    """The encoder, from pictures of clouds to a feature map."""

    def __init__(self, settings: PixorConfig, grid: BevGrid) -> None:
        """Make the layers; the range of the alliance's `grid` is divided into cells and slices.

        Raises:
            UserError: the range's height is not a whole number of slices.
        """
        super().__init__()
        self.settings, self.grid = settings, grid
        height_m = grid.range_m[5] - grid.range_m[2]
        if abs(height_m / settings.slice_m - self.voxel_grid.shape_zyx[0]) > 1e-4:
            raise UserError(f"slice_m: expected a height that divides the range's {height_m:g} m, got {settings.slice_m:g}")
        layers: list[nn.Module] = []
        widths = (self.voxel_grid.shape_zyx[0] + 1, *settings.channels)
        for before, width in pairwise(widths):
            layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        self.block = nn.Sequential(*layers)

    @property
    def voxel_grid(self) -> VoxelGrid:
        """The grid of cells and slices; all points count."""
        return VoxelGrid(self.grid.range_m, (*self.settings.cell_m, self.settings.slice_m), 1, 1)

    @property
    def cell_m(self) -> tuple[float, float]:
        """Edges of a cell of the map, in x and y."""
        return self.settings.cell_m

    def prepare(self, frames: Sequence[AgentFrame], rng: np.random.Generator | None = None) -> Rasters:
        """Return the pictures of the agents' clouds; chance has no part in them. UserError for an agent without a LiDAR scan."""
        return rasterize(lidar_clouds(frames), self.voxel_grid)

    def forward(self, rasters: Rasters) -> Tensor:
        """Return the feature maps (clouds, C, ny, nx)."""
        maps: Tensor = self.block(rasters.dense(*self.voxel_grid.shape_zyx))
        return maps
