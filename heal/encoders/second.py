"""SECOND: sparse 3D convolutions over the voxels of a cloud; height becomes channels of a map (Yan et al., Sensors 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from heal.config import config
from heal.encoders.lidar import lidar_clouds
from heal.encoders.voxelize import VoxelGrid, Voxels, voxelize
from heal.errors import UserError
from heal.grid import BevGrid
from heal.sparse.layers import SparseLayer
from heal.sparse.sites import ConvGeometry, SparseMap, Triple, make_sparse, require_height
from heal.types import AgentFrame

# Features of a point: x, y, z and intensity.
POINT_CHANNELS = 4
# Kernels of the layers that keep the sites, and of the last layer, which halves the height.
SAME = ConvGeometry((3, 3, 3), submanifold=True)
FLATTEN = ConvGeometry((3, 1, 1), stride=(2, 1, 1))


@config
class SecondConfig:
    """The encoder's settings; the defaults are the paper's agent type m3.

    Attributes:
        kind: names this encoder.
        voxel_m: edges of a voxel in x, y and z.
        max_points: points kept of a voxel.
        max_voxels_train: voxels kept of a cloud in training.
        max_voxels: voxels kept of a cloud in evaluation.
        channels: channels of the first layer, of the second layer, and of each following stage, which halves the resolution.
        map_channels: channels of the last layer.
        height_cells: cells that remain in z; they become channels of the map. The grid's height must result in this number: 4 m in
            voxels of 0.1 m leave 2 cells after three stages, as do voxels of 0.2 m after two stages.
    """

    senses: ClassVar[str] = "lidar"
    kind: Literal["second"] = "second"
    voxel_m: tuple[float, float, float] = (0.1, 0.1, 0.1)
    max_points: int = 5
    max_voxels_train: int = 32000
    max_voxels: int = 70000
    channels: tuple[int, ...] = (16, 16, 32, 64, 64)
    map_channels: int = 64
    height_cells: int = 2

    def __post_init__(self) -> None:
        """Raise ValueError if there is no stage that halves the resolution."""
        if len(self.channels) < 3:
            raise UserError(f"channels must name the two first layers and at least one stage, got {self.channels}")

    @property
    def out_channels(self) -> int:
        """Channels of the map."""
        return self.map_channels * self.height_cells

    @property
    def reduction(self) -> int:
        """Edge of a cell of the map divided by the edge of a voxel."""
        return int(2 ** (len(self.channels) - 2))


def halving_stages(settings: SecondConfig) -> tuple[ConvGeometry, ...]:
    """Return the kernel of each stage's first layer, which halves the resolution; the last one is not padded in z."""
    paddings: list[Triple] = [(1, 1, 1)] * (len(settings.channels) - 3) + [(0, 1, 1)]
    return tuple(ConvGeometry((3, 3, 3), stride=(2, 2, 2), padding=padding) for padding in paddings)


class SparseStages(nn.Module):
    """The sparse layers in a row.

    Their names are `conv_input`, `conv1`, then `conv2` and so on for the stages that halve the resolution, and `conv_out`, which
    halves the height.
    """

    def __init__(self, settings: SecondConfig) -> None:
        """Make the layers."""
        super().__init__()
        first, second, *widths = settings.channels
        self.conv_input = SparseLayer(POINT_CHANNELS, first, SAME)
        self.conv1 = nn.Sequential(SparseLayer(first, second, SAME))
        width_before = second
        for i, (width, halve) in enumerate(zip(widths, halving_stages(settings), strict=True), start=2):
            layers = (SparseLayer(width_before, width, halve), SparseLayer(width, width, SAME), SparseLayer(width, width, SAME))
            self.add_module(f"conv{i}", nn.Sequential(*layers))
            width_before = width
        self.conv_out = SparseLayer(width_before, settings.map_channels, FLATTEN)

    def levels(self, x: SparseMap) -> list[SparseMap]:
        """Return the outputs of all parts, from the first part to the last."""
        # The first layer reads coordinates. In half precision, these are known to a few centimetres at a hundred metres, which is
        # not enough for a voxel.
        with torch.autocast(x.features.device.type, enabled=False):
            maps: list[SparseMap] = [self.conv_input(x)]
        for part in list(self.children())[1:]:
            maps.append(part(maps[-1]))
        return maps

    def forward(self, x: SparseMap) -> SparseMap:
        """Return the output of the last part."""
        return self.levels(x)[-1]


class Second(nn.Module):
    """The encoder, from voxels to a feature map."""

    def __init__(self, settings: SecondConfig, grid: BevGrid) -> None:
        """Make the layers; the range of the alliance's `grid` is divided into voxels.

        Raises:
            ValueError: the grid's height does not result in `settings.height_cells` cells.
        """
        super().__init__()
        self.settings, self.grid = settings, grid
        self.spconv_block = SparseStages(settings)
        require_height(self.voxel_grid.shape_zyx, (*halving_stages(settings), FLATTEN), settings.height_cells, extra=1)

    @property
    def voxel_grid(self) -> VoxelGrid:
        """The grid of voxels; in training, fewer voxels are kept."""
        most = self.settings.max_voxels_train if self.training else self.settings.max_voxels
        return VoxelGrid(self.grid.range_m, self.settings.voxel_m, self.settings.max_points, most)

    @property
    def shape_zyx(self) -> Triple:
        """Cells of the sparse grid in z, y and x; in z, there is one cell more than there are voxels."""
        nz, ny, nx = self.voxel_grid.shape_zyx
        return nz + 1, ny, nx

    @property
    def cell_m(self) -> tuple[float, float]:
        """Edges of a cell of the map, in x and y."""
        return self.settings.voxel_m[0] * self.settings.reduction, self.settings.voxel_m[1] * self.settings.reduction

    def prepare(self, frames: Sequence[AgentFrame], rng: np.random.Generator | None = None) -> Voxels:
        """Return the voxels of the agents' clouds; `rng` shuffles points. ValueError for an agent without a LiDAR scan."""
        return voxelize(lidar_clouds(frames, rng), self.voxel_grid)

    def sparse_means(self, voxels: Voxels) -> SparseMap:
        """Return the mean point of every voxel: x, y, z in metres and intensity."""
        means = voxels.points.sum(1) / voxels.num_points.clamp(min=1)[:, None].to(voxels.points.dtype)
        return make_sparse(means, voxels.coords, self.shape_zyx, voxels.batch_size)

    def forward(self, voxels: Voxels) -> Tensor:
        """Return the feature maps (batch_size, C, ny, nx)."""
        last: SparseMap = self.spconv_block(self.sparse_means(voxels))
        return last.to_bev()
