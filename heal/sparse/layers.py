"""Layers of sparse 3D convolution: they compute features at sites only; empty space stays empty.

Weights are in the layout of spconv 2, (out, kz, ky, kx, in); `heal.sparse.engines` computes the convolutions.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heal.sparse.engines import engine_for
from heal.sparse.sites import ConvGeometry, SparseMap


class SparseConv(nn.Module):
    """A sparse convolution without bias."""

    def __init__(self, in_channels: int, out_channels: int, geometry: ConvGeometry) -> None:
        """Make a layer with random weights, in the range that torch uses for its own convolutions."""
        super().__init__()
        self.geometry = geometry
        self.weight = nn.Parameter(torch.empty(out_channels, *geometry.kernel, in_channels))
        limit = 1 / math.sqrt(in_channels * geometry.volume)
        nn.init.uniform_(self.weight, -limit, limit)

    def forward(self, x: SparseMap, scale: Tensor | None = None, shift: Tensor | None = None) -> SparseMap:
        """Convolve a map; multiply the result by `scale` (out,) and add `shift` (out,) where these are given."""
        weight = self.weight if scale is None else self.weight * scale[:, None, None, None, None]
        return engine_for(weight.device.type).convolve(x, weight, shift, self.geometry)


class SparseLayer(nn.Sequential):
    """A sparse convolution, a batch norm over the sites, and a ReLU."""

    def __init__(self, in_channels: int, out_channels: int, geometry: ConvGeometry) -> None:
        """Make the layers; the batch norm has the constants of the reference."""
        super().__init__(SparseConv(in_channels, out_channels, geometry), nn.BatchNorm1d(out_channels, eps=1e-3, momentum=0.01))

    def forward(self, x: SparseMap) -> SparseMap:
        """Map features (V, in) to (sites of the output, out)."""
        conv, norm = self[0], self[1]
        assert isinstance(norm, nn.BatchNorm1d) and norm.running_mean is not None and norm.running_var is not None
        # A single site has no variance; then the running statistics are used in training too.
        if norm.training and len((convolved := conv(x)).sites) > 1:
            return SparseMap(F.relu(norm(convolved.features)), convolved.sites)
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        convolved = conv(x, scale, norm.bias - norm.running_mean * scale)
        return SparseMap(F.relu(convolved.features, inplace=True), convolved.sites)
