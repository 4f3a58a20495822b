"""Where2comm: agents send the cells that matter, and each cell attends to them (Hu et al. 2022, sections 4.2 to 4.4).

The confidence map of section 4.2 is the foreground score. The messages of section 4.3, the most confident cells within a limit, are
those of the codecs `score:S` and `budget:BYTES`. Under the pyramid split the receiver gets the scores with the cells, and a cell
that was not sent has the score 0, so that it has no part in the fusion. Under the feature split, the usual background takes the
place of cells that were not sent, and the receiver scores it itself.

The paper leaves open, and here is chosen:
* One round of communication, without the request maps of later rounds, because messages go to everybody who listens.
* The sensing distance of a cell is that from its agent's sensor in the plane. Its encoding, the usual sines and cosines of powers
  of 1/10000, has a resolution of one cell.
* Values are not projected and the weights of all heads are averaged, as the formula of section 4.4 says: an agent's weight in a
  cell is a single number. The softmax is over the agents that sent the cell.
* The ego's map is added to the sum of the messages, as is the feed-forward network, which has a norm before it: where nobody is
  confident the ego's map stays almost as it is.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heal.config import config
from heal.errors import UserError
from heal.fusion.map_fusion import MapFusion, MapFusionConfig, SceneMaps, require_at_least_one, weighted_sum
from heal.grid import BevGrid
from heal.layers.linear import Linear


@config
class Where2commConfig(MapFusionConfig):
    """Settings of Where2comm.

    Attributes:
        heads: heads of the attention; they share the channels.
        hidden_channels: inner channels of the feed-forward network.
    """

    kind: Literal["where2comm"] = "where2comm"
    heads: int = 8
    hidden_channels: int = 256

    def __post_init__(self) -> None:
        """Raise UserError if no foreground is scored, or for a number that is less than 1."""
        require_at_least_one(self, "heads", "hidden_channels")
        if not self.foreground:
            raise UserError("fusion.foreground: Where2comm weighs messages by their foreground scores; expected true, got false")


class Where2comm(MapFusion):
    """Adds to the ego's map the agents' maps, weighted by attention and confidence, and what a feed-forward network makes of it.

    Trust is a factor on an agent's confidence.
    """

    def __init__(self, settings: Where2commConfig, in_channels: int, grid: BevGrid) -> None:
        """Make the layers for maps of `in_channels` channels on `grid`; UserError if the heads do not divide the channels."""
        super().__init__(settings, in_channels, grid)
        if in_channels % settings.heads or in_channels % 2:
            raise UserError(f"fusion.heads: expected a divisor of {in_channels}, an even number of channels, got {settings.heads}")
        self.heads = settings.heads
        self.query, self.key = Linear(in_channels, in_channels), Linear(in_channels, in_channels)
        self.norm = nn.LayerNorm(in_channels)
        hidden = settings.hidden_channels
        self.feed_forward = nn.Sequential(Linear(in_channels, hidden), nn.ReLU(inplace=True), Linear(hidden, in_channels))

    def fuse_scene(self, scene: SceneMaps) -> Tensor:
        """Return the ego's map with what the agents add to it."""
        weights = self._weights(scene)
        mixed = (scene.maps[:1] + weighted_sum(scene.maps, weights)).permute(0, 2, 3, 1)
        fused: Tensor = mixed + self.feed_forward(self.norm(mixed))
        return fused.permute(0, 3, 1, 2)

    def _weights(self, scene: SceneMaps) -> Tensor:
        """Return the weights (N, 1, ny, nx) of agents: the mean of the heads' attention, times trusted confidence."""
        distances = sensing_distances(scene.agent_SE3_ego, self.grid)
        encoded = [self._encoded(*agent) for agent in zip(scene.maps, distances, strict=True)]
        query: Tensor = self.query(encoded[0])
        alike = torch.stack([self._alike(query, self.key(vectors)) for vectors in encoded])  # (N, ny, nx, heads)
        sent = scene.scores[:, 0, :, :, None] > 0
        attention = alike.masked_fill(~sent, torch.finfo(alike.dtype).min).softmax(dim=0).mean(dim=3)[:, None]
        return attention * (scene.scores * scene.trust[:, None, None, None]).to(attention)

    def _encoded(self, level: Tensor, steps: Tensor) -> Tensor:
        """Return an agent's vectors (ny, nx, C) with the encoding of their sensing distances (ny, nx), in whole cells."""
        table = distance_table(int(steps.max()) + 1, self.in_channels).to(level)
        return level.permute(1, 2, 0) + F.embedding(steps.to(level.device), table)

    def _alike(self, query: Tensor, key: Tensor) -> Tensor:
        """Return the scaled products (ny, nx, heads) of queries and keys (ny, nx, C)."""
        ny, nx, channels = query.shape
        width = channels // self.heads
        return (query * key).view(ny, nx, self.heads, width).sum(dim=3) / math.sqrt(width)


def sensing_distances(agent_SE3_ego: Tensor, grid: BevGrid) -> Tensor:
    """Return how far the cells of the ego's map are from the sensors of agents in the plane, in whole cells: (N, ny, nx) int64."""
    x_m = grid.range_m[0] + grid.cell_m * (torch.arange(grid.nx, dtype=torch.float64) + 0.5)
    y_m = grid.range_m[1] + grid.cell_m * (torch.arange(grid.ny, dtype=torch.float64) + 0.5)
    sensors_m = torch.linalg.inv(agent_SE3_ego.cpu().double())[:, :2, 3]
    from_x_m, from_y_m = x_m - sensors_m[:, :1], y_m - sensors_m[:, 1:]
    return (torch.hypot(from_x_m[:, None, :], from_y_m[:, :, None]) / grid.cell_m).round().long()


def distance_table(count: int, channels: int) -> Tensor:
    """Return the encodings (count, channels) of the distances 0 to `count` - 1: sines, then cosines."""
    rates = 10000.0 ** (-torch.arange(0, channels, 2) / channels)
    angles = torch.arange(count)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)
