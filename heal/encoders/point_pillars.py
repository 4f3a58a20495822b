"""PointPillars: the points of each pillar, a vertical column, become one cell of a feature map (Lang et al., CVPR 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from heal.config import config
from heal.encoders.lidar import lidar_clouds
from heal.encoders.point_rows import PointLayer, PointLayers, VoxelRows, mean_xyz, points_of
from heal.encoders.voxelize import VoxelGrid, Voxels, voxelize
from heal.grid import BevGrid
from heal.types import AgentFrame


@config
class PointPillarsConfig:
    """The encoder's settings; the defaults are the paper's agent type m1.

    Attributes:
        kind: names this encoder.
        pillar_m: edges of a pillar in x and y; a pillar is as high as the alliance's range.
        max_points: points kept of a pillar.
        max_pillars_train: pillars kept of a cloud in training.
        max_pillars: pillars kept of a cloud in evaluation.
        channels: output channels of each point layer; the last number is that of the map.
        absolute_xyz: a point's input holds the coordinates themselves, not only offsets.
        distance: a point's input holds the distance to the sensor.
    """

    senses: ClassVar[str] = "lidar"
    kind: Literal["point_pillars"] = "point_pillars"
    pillar_m: tuple[float, float] = (0.4, 0.4)
    max_points: int = 32
    max_pillars_train: int = 32000
    max_pillars: int = 70000
    channels: tuple[int, ...] = (64,)
    absolute_xyz: bool = True
    distance: bool = False

    @property
    def out_channels(self) -> int:
        """Channels of the map."""
        return self.channels[-1]


def pillar_grid(settings: PointPillarsConfig, grid: BevGrid, training: bool) -> VoxelGrid:
    """Return the grid of pillars over the range of a bird's-eye-view grid."""
    height = grid.range_m[5] - grid.range_m[2]
    most = settings.max_pillars_train if training else settings.max_pillars
    return VoxelGrid(grid.range_m, (*settings.pillar_m, height), settings.max_points, most)


class PointPillars(nn.Module):
    """The encoder, from pillars (voxels as high as the range) to a feature map."""

    def __init__(self, settings: PointPillarsConfig, grid: BevGrid) -> None:
        """Make the layers; the range of the alliance's `grid` is divided into pillars."""
        super().__init__()
        self.settings, self.grid = settings, grid
        channels = [4 + 6 - (0 if settings.absolute_xyz else 3) + settings.distance]
        layers = []
        for i, width in enumerate(settings.channels):
            last = i == len(settings.channels) - 1
            layers.append(PointLayer(channels[-1], width if last else width // 2))
            channels.append(width)
        self.pillar_vfe = PointLayers(layers)

    @property
    def voxel_grid(self) -> VoxelGrid:
        """The grid of pillars; in training, fewer pillars are kept."""
        return pillar_grid(self.settings, self.grid, self.training)

    @property
    def cell_m(self) -> tuple[float, float]:
        """Edges of a cell of the map, in x and y."""
        return self.settings.pillar_m

    def prepare(self, frames: Sequence[AgentFrame], rng: np.random.Generator | None = None) -> Voxels:
        """Return the pillars of the agents' clouds; `rng` shuffles points. ValueError for an agent without a LiDAR scan."""
        return voxelize(lidar_clouds(frames, rng), self.voxel_grid)

    def forward(self, voxels: Voxels) -> Tensor:
        """Return the feature maps (batch_size, C, ny, nx)."""
        _, ny, nx = self.voxel_grid.shape_zyx
        pillars = self.pillar_features(voxels)
        cloud, _, y, x = voxels.coords.unbind(1)
        canvas = pillars.new_zeros(voxels.batch_size, ny, nx, pillars.shape[1])
        canvas[cloud, y, x] = pillars
        return canvas.permute(0, 3, 1, 2)

    def pillar_features(self, voxels: Voxels) -> Tensor:
        """Return (V, C), a feature vector for every pillar."""
        maxima: Tensor = self.pillar_vfe(self._pillar_rows(voxels))
        return maxima

    def _pillar_rows(self, voxels: Voxels) -> VoxelRows:
        """Return a row with the features of every point, and a row of zeros for every pillar with an empty slot.

        Empty slots take part in the maximum and in the statistics, as in the networks that HEAL released.
        """
        pillars, slots = voxels.points.shape[:2]
        points, of_points = points_of(voxels)
        features = self._point_features(voxels, points, of_points)
        with_padding = (voxels.num_points < slots).nonzero()[:, 0]
        padding = features.new_zeros(len(with_padding), features.shape[1])
        weight = torch.cat([features.new_ones(len(of_points)), (slots - voxels.num_points[with_padding]).to(features.dtype)])
        return VoxelRows(torch.cat([features, padding]), torch.cat([of_points, with_padding]), weight, pillars)

    def _point_features(self, voxels: Voxels, points: Tensor, pillar: Tensor) -> Tensor:
        """Return (R, C) for every point its coordinates and its offsets from the pillar's mean and from the pillar's centre."""
        xyz = points[:, :3]
        mean = mean_xyz(points, pillar, voxels)
        size = xyz.new_tensor(self.voxel_grid.voxel_m)
        lower = xyz.new_tensor(self.voxel_grid.range_m[:3])
        centre = voxels.coords[:, [3, 2, 1]].to(xyz.dtype) * size + (size / 2 + lower)
        parts = [points if self.settings.absolute_xyz else points[:, 3:], xyz - mean[pillar], xyz - centre[pillar]]
        if self.settings.distance:
            parts.append(xyz.norm(dim=1, keepdim=True))
        return torch.cat(parts, dim=1)
