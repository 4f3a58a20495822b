"""DiscoNet: a learned weight for every agent and cell (Li et al. 2021, "Learning distilled collaboration graph", section 3).

This is the student, which fuses maps. The edge between an agent and the ego has a matrix of weights, one for each cell.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from heal.config import config
from heal.fusion.map_fusion import MapFusion, MapFusionConfig, SceneMaps, weighted_sum
from heal.grid import BevGrid


@config
class DiscoNetConfig(MapFusionConfig):
    """Settings of DiscoNet."""

    kind: Literal["disconet"] = "disconet"


class DiscoNet(MapFusion):
    """Averages the maps by weights that a network reads off the agent's and the ego's vectors in a cell.

    An agent's vectors outside of its view are zeros, which take part. Trust is a factor on an agent's weight before the weights are
    divided by their sum.
    """

    def __init__(self, settings: DiscoNetConfig, in_channels: int, grid: BevGrid) -> None:
        """Make the layers for maps of `in_channels` channels on `grid`."""
        super().__init__(settings, in_channels, grid)
        self.pixel_weight_layer = PixelWeights(in_channels)

    def fuse_scene(self, scene: SceneMaps) -> Tensor:
        """Return the mean of the maps, weighted by the softmax of the edges' weights over the agents."""
        return weighted_sum(scene.maps, scene.shares(self.pixel_weight_layer(scene.maps, scene.maps[:1])))


class PixelWeights(nn.Module):
    """The network of an edge: from an agent's and the ego's vectors to the logarithm of the agent's weight, cell by cell."""

    norms_follow_convolutions = True

    def __init__(self, channels: int) -> None:
        """Make the layers for maps of `channels` channels."""
        super().__init__()
        self.conv1_1, self.bn1_1 = nn.Conv2d(2 * channels, 128, 1), nn.BatchNorm2d(128)
        self.conv1_2, self.bn1_2 = nn.Conv2d(128, 32, 1), nn.BatchNorm2d(32)
        self.conv1_3, self.bn1_3 = nn.Conv2d(32, 8, 1), nn.BatchNorm2d(8)
        self.conv1_4 = nn.Conv2d(8, 1, 1)

    def forward(self, maps: Tensor, ego: Tensor) -> Tensor:
        """Map the maps of N agents (N, C, ny, nx) and of the ego (1, C, ny, nx) to (N, 1, ny, nx)."""
        # The first layer reads an agent's map joined to the ego's. The ego's half is computed once for all agents.
        weight, channels = self.conv1_1.weight, maps.shape[1]
        joined = F.conv2d(maps, weight[:, :channels], self.conv1_1.bias) + F.conv2d(ego, weight[:, channels:])
        x = F.relu(self.bn1_1(joined), inplace=True)
        x = F.relu(self.bn1_2(self.conv1_2(x)), inplace=True)
        x = F.relu(self.bn1_3(self.conv1_3(x)), inplace=True)
        return F.relu(self.conv1_4(x))
