"""Layers over the points of voxels: rows of features, one for every point, and the maximum over the rows of each voxel.

PointPillars (Lang et al., CVPR 2019) and VoxelNet (Zhou and Tuzel, CVPR 2018) share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heal.encoders.voxelize import Voxels


@dataclass(frozen=True)
class VoxelRows:
    """The points of V voxels as R rows.

    Where the empty slots of a voxel count, they share one row, so that equal slots are computed once.

    Attributes:
        features: (R, C).
        voxel: (R,) int64, index of the row's voxel; every voxel has a row.
        weight: (R,) number of slots that the row stands for.
        voxels: number V of voxels.
    """

    features: Tensor
    voxel: Tensor
    weight: Tensor
    voxels: int

    def maxima(self) -> Tensor:
        """Return (V, C), the maximum over each voxel's rows."""
        maxima: Tensor = _SegmentMax.apply(self.features, self.voxel, self.voxels)
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

    def forward(self, rows: VoxelRows) -> VoxelRows:
        """Return the rows with new features (R, out_channels)."""
        # Never in half precision, whose steps at a hundred metres are as long as a car is wide; the layer is cheap anyway.
        with torch.autocast(rows.features.device.type, enabled=False):
            mean, variance = self._statistics(rows)
            scale = self.norm.weight * torch.rsqrt(variance + self.norm.eps)
            # The norm follows the linear map directly, so both are one affine map.
            features = F.linear(rows.features, self.linear.weight * scale[:, None], self.norm.bias - mean * scale)
        return replace(rows, features=F.relu(features, inplace=True))

    def _statistics(self, rows: VoxelRows) -> tuple[Tensor, Tensor]:
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


def _moments_after(linear: Tensor, rows: VoxelRows) -> tuple[Tensor, Tensor]:
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
    """Point layers in a row; between two layers, the voxel's maximum is appended to every row's features."""

    def __init__(self, layers: Sequence[PointLayer]) -> None:
        """Take over the layers, at least one."""
        super().__init__()
        self.pfn_layers = nn.ModuleList(layers)

    def forward(self, rows: VoxelRows) -> Tensor:
        """Return (V, C), a feature vector for every voxel."""
        maxima = rows.features[:0]
        for i, layer in enumerate(self.pfn_layers):
            if i:
                rows = replace(rows, features=torch.cat([rows.features, maxima[rows.voxel]], dim=1))
            rows = layer(rows)
            maxima = rows.maxima()
        return maxima


def points_of(voxels: Voxels) -> tuple[Tensor, Tensor]:
    """Return the points (R, 4) of all voxels without the empty slots, and the index (R,) of each point's voxel."""
    voxel = torch.repeat_interleave(voxels.num_points)
    before = voxels.num_points.cumsum(0) - voxels.num_points
    return voxels.points[voxel, torch.arange(len(voxel), device=voxel.device) - before[voxel]], voxel


def mean_xyz(points: Tensor, voxel: Tensor, voxels: Voxels) -> Tensor:
    """Return the mean x, y, z (V, 3) of each voxel's points, which are given as by `points_of`."""
    count = voxels.num_points[:, None].to(points.dtype)
    return points.new_zeros(len(count), 3).index_add(0, voxel, points[:, :3]) / count
