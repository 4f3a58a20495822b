"""V2VNet: agents exchange messages on a graph and update their maps by a gated unit (Wang et al. 2020, section 3, aggregation).

The fusion node computes the graph of all agents, each in its own frame. The paper's compensation for the time a message takes is
left out, as in HEAL: maps that are late are moved by their poses alone.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from heal.config import config
from heal.fusion.map_fusion import MapFusion, MapFusionConfig, SceneMaps, move, require_at_least_one
from heal.fusion.warp import affine_rows
from heal.grid import BevGrid
from heal.layers.linear import Linear
from heal.layers.winograd import convolve_part


@config
class V2VNetConfig(MapFusionConfig):
    """Settings of V2VNet.

    Attributes:
        iterations: rounds in which every agent reads the others' maps and updates its own.
        aggregation: how an agent joins the messages it reads: their mean, or the greatest value of each channel.
    """

    kind: Literal["v2vnet"] = "v2vnet"
    iterations: int = 2
    aggregation: Literal["mean", "maximum"] = "mean"

    def __post_init__(self) -> None:
        """Raise ConfigError for a number that is less than 1."""
        require_at_least_one(self, "iterations")


class V2VNet(MapFusion):
    """Messages from all agents to all agents, a gated update, and a linear layer for the ego's map.

    A message is zero beyond the borders of its sender's map, as in HEAL. A cell that was not sent is a vector of zeros, and its
    message counts like any other. Trust is the sender's weight in the mean, or a factor on its message.
    """

    def __init__(self, settings: V2VNetConfig, in_channels: int, grid: BevGrid) -> None:
        """Make the layers for maps of `in_channels` channels on `grid`."""
        super().__init__(settings, in_channels, grid)
        self.settings = settings
        self.msg_cnn = nn.Conv2d(2 * in_channels, in_channels, 3, padding=1)
        self.conv_gru = nn.Module()
        self.conv_gru.cell_list = nn.ModuleList([GatedUnit(in_channels)])
        self.mlp = Linear(in_channels, in_channels)

    def fuse_scene(self, scene: SceneMaps) -> Tensor:
        """Return the ego's map after all iterations."""
        # The first agent is computed in the ego's frame, which differs from its own where the ego's map is missing.
        maps = [scene.maps[:1], *scene.own[1:]]
        frame_SE3_ego = scene.own_SE3_ego.clone()
        frame_SE3_ego[0] = torch.eye(4).to(frame_SE3_ego)
        for i in range(self.settings.iterations):
            # Nobody reads what the others would know after the last iteration.
            readers = range(len(maps)) if i + 1 < self.settings.iterations else range(1)
            maps = [self._updated(reader, maps, frame_SE3_ego, scene.trust) for reader in readers]
        linear: Tensor = self.mlp(maps[0].permute(0, 2, 3, 1))
        return linear.permute(0, 3, 1, 2)

    def _updated(self, reader: int, maps: list[Tensor], frame_SE3_ego: Tensor, trust: Tensor) -> Tensor:
        """Return the map of one agent (1, C, ny, nx) after an iteration, from the maps of all agents in their frames."""
        own = maps[reader]
        affines = affine_rows(frame_SE3_ego @ torch.linalg.inv(frame_SE3_ego[reader]), self.grid)
        whole = own.new_ones(1, 1, *own.shape[-2:])
        moved = [move((level, whole), affine) for level, affine in zip(maps, affines, strict=True)]
        # A message is a convolution of the sender's map, in the reader's frame, joined to the reader's own. The half that reads
        # the reader's own map is the same for all senders.
        channels = own.shape[1]
        shared = convolve_part(self.msg_cnn, own, slice(channels, None))
        parts = [convolve_part(self.msg_cnn, level, slice(channels), biased=False) for level, _ in moved]
        weights = [inside * factor for (_, inside), factor in zip(moved, trust, strict=True)]
        updated: Tensor = self.conv_gru.get_submodule("cell_list.0")(own, self._joined(parts, weights, shared, trust))
        return updated

    def _joined(self, parts: Sequence[Tensor], weights: Sequence[Tensor], shared: Tensor, trust: Tensor) -> Tensor:
        """Join the messages of N agents, (part + shared) * weight, to one map (1, C, ny, nx)."""
        if self.settings.aggregation == "maximum":
            return functools.reduce(torch.maximum, [(part + shared) * weight for part, weight in zip(parts, weights, strict=True)])
        total_trust = trust.sum().clamp_min(torch.finfo(trust.dtype).tiny)
        shares = [weight / total_trust for weight in weights]
        total = shared * torch.cat(shares, dim=1).sum(dim=1, keepdim=True)
        for part, share in zip(parts, shares, strict=True):
            total = total.addcmul_(part, share)
        return total


class GatedUnit(nn.Module):
    """A convolutional gated recurrent unit whose hidden state is zero at every step, as in HEAL."""

    def __init__(self, channels: int) -> None:
        """Make the layers for two maps of `channels` channels and a hidden state of as many."""
        super().__init__()
        self.conv_gates = nn.Conv2d(3 * channels, 2 * channels, 3, padding=1)
        self.conv_can = nn.Conv2d(3 * channels, channels, 3, padding=1)

    def forward(self, own: Tensor, joined: Tensor) -> Tensor:
        """Map an agent's map and its joined messages, each (1, C, ny, nx), to the agent's new map (1, C, ny, nx)."""
        # The hidden state is zero: the channels that read it add nothing, and no reset gate is needed.
        x, channels = torch.cat([own, joined], dim=1), own.shape[1]
        known = slice(2 * channels)
        update = convolve_part(self.conv_gates, x, known, slice(channels, None)).sigmoid_()
        return update * convolve_part(self.conv_can, x, known).tanh_()
