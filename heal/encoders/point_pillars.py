"""PointPillars: the points of each pillar, a vertical column, become one cell of a feature map (Lang et al., CVPR 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heal.config import config
from heal.encoders.lidar import lidar_clouds
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


@dataclass(frozen=True)
class PillarRows:
    """The slots of V pillars as R rows, so that equal slots are computed once.

    Every point has a row. The empty slots of a pillar are all equal and share one row that counts several times. Empty slots take
    part in the maximum and in the statistics, as in the networks that HEAL released.

    Attributes:
        features: (R, C).
        pillar: (R,) int64, index of the row's pillar.
        weight: (R,) number of slots of the row; the sum over all rows is V times the slots of a pillar.
        pillars: number V of pillars.
    """

    features: Tensor
    pillar: Tensor
    weight: Tensor
    pillars: int

    def maxima(self) -> Tensor:
        """Return (V, C), the maximum over each pillar's slots."""
        maxima: Tensor = _SegmentMax.apply(self.features, self.pillar, self.pillars)
        return maxima


class _SegmentMax(torch.autograd.Function):
    """The maximum over the rows of each segment.

    torch's own gradient of `scatter_reduce` takes longer than the rest of a small network.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, segment: Tensor, segments: int) -> Tensor:
        """Return the maxima (segments, C) of rows (R, C), given each row's segment (R,)."""
        start = features.new_full((segments, features.shape[1]), -torch.inf)
        maxima = start.scatter_reduce(0, segment[:, None].expand_as(features), features, "amax")
        ctx.save_for_backward(features, segment, maxima)
        return maxima

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Divide the gradient of a maximum equally among the rows that attain it."""
        features, segment, maxima = ctx.saved_tensors
        attains = (features == maxima[segment]).to(grad.dtype)
        count = torch.zeros_like(maxima).index_add_(0, segment, attains)
        return attains.mul_((grad / count)[segment]), None, None


class PointLayer(nn.Module):
    """A linear map, batch norm and ReLU, applied to every slot."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Make the layer; its batch norm has the constants of the reference."""
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels, bias=False)
        self.norm = nn.BatchNorm1d(out_channels, eps=1e-3, momentum=0.01)

    def forward(self, rows: PillarRows) -> PillarRows:
        """Return the rows with new features (R, out_channels)."""
        # Never in half precision, whose steps at a hundred metres are as long as a car is wide; the layer is cheap anyway.
        with torch.autocast(rows.features.device.type, enabled=False):
            mean, variance = self._statistics(rows)
            scale = self.norm.weight * torch.rsqrt(variance + self.norm.eps)
            # The norm follows the linear map directly, so both are one affine map.
            features = F.linear(rows.features, self.linear.weight * scale[:, None], self.norm.bias - mean * scale)
        return replace(rows, features=F.relu(features, inplace=True))

    def _statistics(self, rows: PillarRows) -> tuple[Tensor, Tensor]:
        """Return mean and variance (C,) after the linear map.

        In training, these are the statistics of all slots, which also update the running statistics; otherwise the running ones.
        """
        norm = self.norm
        assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
        slots = rows.weight.sum(dtype=torch.float64)
        if not self.training or slots < 2:
            return norm.running_mean, norm.running_var
        mean, variance = _moments_after(self.linear.weight, rows)
        with torch.no_grad():
            norm.running_mean.lerp_(mean, norm.momentum or 0.0)
            norm.running_var.lerp_((variance * slots / (slots - 1)).float(), norm.momentum or 0.0)
            norm.num_batches_tracked += 1
        return mean, variance


def _moments_after(linear: Tensor, rows: PillarRows) -> tuple[Tensor, Tensor]:
    """Return mean and variance (C_out,) of the slots after a linear map (C_out, C_in).

    They follow from the moments of the channels before the map, which are fewer. The sums over millions of slots are computed in
    float64.
    """
    inputs, weight = rows.features.double(), linear.double()
    share = rows.weight.double() / rows.weight.sum(dtype=torch.float64)
    mean = share @ inputs
    centred = inputs - mean
    covariance = (centred * share[:, None]).T @ centred
    return (weight @ mean).float(), ((weight @ covariance) * weight).sum(1).float()


class PointLayers(nn.Module):
    """Point layers in a row; between two layers, the pillar's maximum is appended to every slot's features."""

    def __init__(self, layers: Sequence[PointLayer]) -> None:
        """Take over the layers, at least one."""
        super().__init__()
        self.pfn_layers = nn.ModuleList(layers)

    def forward(self, rows: PillarRows) -> Tensor:
        """Return (V, C), a feature vector for every pillar."""
        maxima = rows.features[:0]
        for i, layer in enumerate(self.pfn_layers):
            if i:
                rows = replace(rows, features=torch.cat([rows.features, maxima[rows.pillar]], dim=1))
            rows = layer(rows)
            maxima = rows.maxima()
        return maxima


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

    def _pillar_rows(self, voxels: Voxels) -> PillarRows:
        """Return a row with the features of every point, and a row of zeros for every pillar with an empty slot."""
        pillars, slots = voxels.points.shape[:2]
        of_points = torch.repeat_interleave(voxels.num_points)
        features = self._point_features(voxels, of_points)
        with_padding = (voxels.num_points < slots).nonzero()[:, 0]
        padding = features.new_zeros(len(with_padding), features.shape[1])
        weight = torch.cat([features.new_ones(len(of_points)), (slots - voxels.num_points[with_padding]).to(features.dtype)])
        return PillarRows(torch.cat([features, padding]), torch.cat([of_points, with_padding]), weight, pillars)

    def _point_features(self, voxels: Voxels, pillar: Tensor) -> Tensor:
        """Return (R, C) for every point its coordinates and its offsets from the pillar's mean and from the pillar's centre."""
        before = voxels.num_points.cumsum(0) - voxels.num_points
        points = voxels.points[pillar, torch.arange(len(pillar), device=pillar.device) - before[pillar]]
        xyz = points[:, :3]
        mean = xyz.new_zeros(len(before), 3).index_add(0, pillar, xyz) / voxels.num_points[:, None].to(xyz.dtype)
        size = xyz.new_tensor(self.voxel_grid.voxel_m)
        lower = xyz.new_tensor(self.voxel_grid.range_m[:3])
        centre = voxels.coords[:, [3, 2, 1]].to(xyz.dtype) * size + (size / 2 + lower)
        parts = [points if self.settings.absolute_xyz else points[:, 3:], xyz - mean[pillar], xyz - centre[pillar]]
        if self.settings.distance:
            parts.append(xyz.norm(dim=1, keepdim=True))
        return torch.cat(parts, dim=1)
