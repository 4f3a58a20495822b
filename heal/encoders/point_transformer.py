"""Point Transformer: a point attends to the points around it, channel by channel (Zhao et al., ICCV 2021, sections 3.2 to 3.4).

A point stands for an occupied pillar. It lies at the mean of the pillar's returns, and PointPillars' point layers make its
features. Three things differ from the paper, so that a CPU can train the encoder. A point's neighbours are those of the pillars in
a window around its own, instead of the 16 nearest points. Layer norms take the place of batch norms, so that a single point can be
trained on. The resolution stays, because the agent's backbone follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from heal.config import config
from heal.encoders.point_pillars import PointPillars, PointPillarsConfig
from heal.encoders.point_rows import mean_xyz, points_of
from heal.encoders.voxelize import Voxels
from heal.errors import UserError
from heal.grid import BevGrid
from heal.sparse.rulebook import rulebook
from heal.sparse.sites import ConvGeometry, SparseMap, make_sparse
from heal.types import AgentFrame


@config
class PointTransformerConfig:
    """The encoder's settings.

    Attributes:
        kind: names this encoder.
        pillar_m: edges of a pillar in x and y; a pillar is as high as the alliance's range.
        max_points: points kept of a pillar.
        max_pillars_train: pillars kept of a cloud in training.
        max_pillars: pillars kept of a cloud in evaluation.
        channels: channels of a point's features, and of the map.
        blocks: number of transformer blocks; each of them lets a point see farther by half a window.
        window: pillars along an edge of the window of neighbours, an odd number.
    """

    senses: ClassVar[str] = "lidar"
    kind: Literal["point_transformer"] = "point_transformer"
    pillar_m: tuple[float, float] = (0.4, 0.4)
    max_points: int = 32
    max_pillars_train: int = 32000
    max_pillars: int = 70000
    channels: int = 64
    blocks: int = 2
    window: int = 3

    def __post_init__(self) -> None:
        """Raise UserError for a window without a middle, or for no block."""
        if self.window < 1 or self.window % 2 == 0 or self.blocks < 1:
            raise UserError(f"expected an odd window and at least one block, got window={self.window} and blocks={self.blocks}")

    @property
    def out_channels(self) -> int:
        """Channels of the map."""
        return self.channels

    @property
    def pillars(self) -> PointPillarsConfig:
        """The settings of the pillars whose features attend to each other."""
        return PointPillarsConfig(
            pillar_m=self.pillar_m,
            max_points=self.max_points,
            max_pillars_train=self.max_pillars_train,
            max_pillars=self.max_pillars,
            channels=(self.channels,),
        )


@dataclass(frozen=True)
class Neighbours:
    """The pairs of points that attend.

    Attributes:
        point: (P,) int64 index of the point that attends; every point attends at least to itself.
        neighbour: (P,) int64 index of the point to which it attends.
        offset_m: (P, 3) place of the point less that of its neighbour, metres.
        points: number of points.
    """

    point: Tensor
    neighbour: Tensor
    offset_m: Tensor
    points: int

    @staticmethod
    def of(places: SparseMap, window: int) -> Neighbours:
        """Pair the points of pillars in a window; `places` has their x, y, z in metres as features."""
        rules = rulebook(places.sites, ConvGeometry((1, window, window), submanifold=True))
        own = torch.arange(len(places.sites), device=places.features.device)
        point = torch.cat([own, *(pairs.target for pairs in rules.pairs)])
        neighbour = torch.cat([own, *(pairs.source for pairs in rules.pairs)])
        offset_m = places.features.index_select(0, point) - places.features.index_select(0, neighbour)
        return Neighbours(point, neighbour, offset_m, len(own))

    def attention(self, logits: Tensor) -> Tensor:
        """Return the softmax (P, C) of logits (P, C) over the neighbours of each point, for every channel of its own."""
        of_point = self.point[:, None].expand_as(logits)
        with torch.no_grad():  # any shift leaves a softmax as it is
            most = logits.new_full((self.points, logits.shape[1]), -torch.inf).scatter_reduce(0, of_point, logits, "amax")
        weight = (logits - most.index_select(0, self.point)).exp()
        return weight / self.sums(weight).index_select(0, self.point)

    def sums(self, values: Tensor) -> Tensor:
        """Return the sums (points, C) of values (P, C) over the neighbours of each point."""
        return values.new_zeros(self.points, values.shape[1]).index_add(0, self.point, values)


class VectorAttention(nn.Module):
    """The point transformer layer, equation 3 of the paper: attention weights are vectors, one number for each channel."""

    def __init__(self, channels: int) -> None:
        """Make the linear maps; `key` and `value` are the paper's psi and alpha, `place` its theta, and `weigh` its gamma."""
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(channels, channels) for _ in range(3))
        self.place, self.weigh = _perceptron(3, channels), _perceptron(channels, channels)

    def forward(self, x: Tensor, neighbours: Neighbours) -> Tensor:
        """Map the features (points, C) of all points to (points, C)."""
        place = self.place(neighbours.offset_m)
        difference = self.query(x).index_select(0, neighbours.point) - self.key(x).index_select(0, neighbours.neighbour)
        weight = neighbours.attention(self.weigh(difference + place).float())
        return neighbours.sums(weight * (self.value(x).index_select(0, neighbours.neighbour) + place))


class TransformerBlock(nn.Module):
    """The residual block of section 3.4: the layer between two linear maps, around a shortcut."""

    def __init__(self, channels: int) -> None:
        """Make the layers."""
        super().__init__()
        self.norm, self.before = nn.LayerNorm(channels), nn.Linear(channels, channels)
        self.attention, self.after = VectorAttention(channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor, neighbours: Neighbours) -> Tensor:
        """Map the features (points, C) of all points to (points, C)."""
        y: Tensor = x + self.after(self.attention(self.before(self.norm(x)), neighbours))
        return y


class PointTransformer(nn.Module):
    """The encoder, from pillars (voxels as high as the range) to a feature map."""

    def __init__(self, settings: PointTransformerConfig, grid: BevGrid) -> None:
        """Make the layers; the range of the alliance's `grid` is divided into pillars."""
        super().__init__()
        self.settings = settings
        self.pillars = PointPillars(settings.pillars, grid)
        self.blocks = nn.ModuleList(TransformerBlock(settings.channels) for _ in range(settings.blocks))
        self.norm = nn.LayerNorm(settings.channels)

    @property
    def cell_m(self) -> tuple[float, float]:
        """Edges of a cell of the map, in x and y."""
        return self.settings.pillar_m

    def prepare(self, frames: Sequence[AgentFrame], rng: np.random.Generator | None = None) -> Voxels:
        """Return the pillars of the agents' clouds; `rng` shuffles points. UserError for an agent without a LiDAR scan."""
        return self.pillars.prepare(frames, rng)

    def forward(self, voxels: Voxels) -> Tensor:
        """Return the feature maps (batch_size, C, ny, nx); a cell without points is zero."""
        features = self.pillars.pillar_features(voxels)
        shape_zyx = self.pillars.voxel_grid.shape_zyx
        mean_m = mean_xyz(*points_of(voxels), voxels)
        whole = make_sparse(torch.cat([features, mean_m], dim=1), voxels.coords, shape_zyx, voxels.batch_size)
        x, places = whole.features[:, :-3], SparseMap(whole.features[:, -3:], whole.sites)
        neighbours = Neighbours.of(places, self.settings.window)
        for block in self.blocks:
            x = block(x, neighbours)
        return SparseMap(self.norm(x), whole.sites).to_bev()


def _perceptron(in_channels: int, channels: int) -> nn.Sequential:
    """Return two linear maps with a ReLU between them."""
    return nn.Sequential(nn.Linear(in_channels, channels), nn.ReLU(inplace=True), nn.Linear(channels, channels))
