"""VoxelNet: layers over the points of a voxel learn its features, 3D convolutions make a map of them (Zhou and Tuzel, CVPR 2018).

The 3D convolutions are sparse, so that a CPU can train them. They have the paper's kernels, strides and paddings, but cells that no
voxel reaches stay zero, and the batch norms count only the other cells. The agent's backbone takes the place of the paper's region
proposal network.
"""

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
from heal.errors import UserError
from heal.grid import BevGrid
from heal.sparse.layers import SparseLayer
from heal.sparse.sites import ConvGeometry, SparseMap, Triple, make_sparse, require_height
from heal.types import AgentFrame

# Features of a point: x, y, z, intensity, and its offset from the mean of the voxel's points (section 2.1.1).
POINT_CHANNELS = 7
# The middle layers for cars (section 3.1); the first and the last of them halve the height.
MIDDLE = (
    ConvGeometry((3, 3, 3), stride=(2, 1, 1), padding=(1, 1, 1)),
    ConvGeometry((3, 3, 3), stride=(1, 1, 1), padding=(0, 1, 1)),
    ConvGeometry((3, 3, 3), stride=(2, 1, 1), padding=(1, 1, 1)),
)


@config
class VoxelNetConfig:
    """The encoder's settings; the defaults are the paper's for cars (section 3.1).

    Attributes:
        kind: names this encoder.
        voxel_m: edges of a voxel in x, y and z.
        max_points: points kept of a voxel, at random in training (T in section 2.1.1).
        max_voxels_train: voxels kept of a cloud in training.
        max_voxels: voxels kept of a cloud in evaluation.
        vfe_channels: output channels of each voxel feature encoding layer, even numbers: half of them are a point's own features,
            the other half the maximum over the voxel. A last point layer keeps the last number.
        middle_channels: output channels of the three 3D convolutions.
        height_cells: cells that remain in z; they become channels of the map. The grid's height must result in this number: 4 m in
            voxels of 0.4 m leave 2.
    """

    senses: ClassVar[str] = "lidar"
    kind: Literal["voxel_net"] = "voxel_net"
    voxel_m: tuple[float, float, float] = (0.2, 0.2, 0.4)
    max_points: int = 35
    max_voxels_train: int = 32000
    max_voxels: int = 70000
    vfe_channels: tuple[int, ...] = (32, 128)
    middle_channels: tuple[int, int, int] = (64, 64, 64)
    height_cells: int = 2

    def __post_init__(self) -> None:
        """Raise UserError unless there is an encoding layer and every width can be halved."""
        if not self.vfe_channels or any(width < 2 or width % 2 for width in self.vfe_channels):
            raise UserError(f"vfe_channels: expected at least one even number of channels, got {self.vfe_channels}")

    @property
    def out_channels(self) -> int:
        """Channels of the map."""
        return self.middle_channels[-1] * self.height_cells


class VoxelNet(nn.Module):
    """The encoder, from voxels with their points to a feature map."""

    def __init__(self, settings: VoxelNetConfig, grid: BevGrid) -> None:
        """Make the layers; the range of the alliance's `grid` is divided into voxels.

        Raises:
            UserError: the grid's height does not result in `settings.height_cells` cells.
        """
        super().__init__()
        self.settings, self.grid = settings, grid
        inputs = (POINT_CHANNELS, *settings.vfe_channels)
        outputs = (*(width // 2 for width in settings.vfe_channels), inputs[-1])
        self.vfe = PointLayers([PointLayer(*widths) for widths in zip(inputs, outputs, strict=True)])
        widths = (settings.vfe_channels[-1], *settings.middle_channels)
        self.middle = nn.Sequential(*(SparseLayer(*part) for part in zip(widths, widths[1:], MIDDLE, strict=False)))
        require_height(self.voxel_grid.shape_zyx, MIDDLE, settings.height_cells)

    @property
    def voxel_grid(self) -> VoxelGrid:
        """The grid of voxels; in training, fewer voxels are kept."""
        most = self.settings.max_voxels_train if self.training else self.settings.max_voxels
        return VoxelGrid(self.grid.range_m, self.settings.voxel_m, self.settings.max_points, most)

    @property
    def shape_zyx(self) -> Triple:
        """Voxels of the range in z, y and x."""
        return self.voxel_grid.shape_zyx

    @property
    def cell_m(self) -> tuple[float, float]:
        """Edges of a cell of the map, in x and y: those of a voxel."""
        return self.settings.voxel_m[:2]

    def prepare(self, frames: Sequence[AgentFrame], rng: np.random.Generator | None = None) -> Voxels:
        """Return the voxels of the agents' clouds; `rng` shuffles points. UserError for an agent without a LiDAR scan."""
        return voxelize(lidar_clouds(frames, rng), self.voxel_grid)

    def forward(self, voxels: Voxels) -> Tensor:
        """Return the feature maps (batch_size, C, ny, nx)."""
        encoded = make_sparse(self.voxel_features(voxels), voxels.coords, self.shape_zyx, voxels.batch_size)
        last: SparseMap = self.middle(encoded)
        return last.to_bev()

    def voxel_features(self, voxels: Voxels) -> Tensor:
        """Return (V, C), a feature vector for every voxel (section 2.1.1); empty slots of a voxel have no part in it."""
        points, voxel = points_of(voxels)
        offset = points[:, :3] - mean_xyz(points, voxel, voxels)[voxel]
        rows = VoxelRows(torch.cat([points, offset], dim=1), voxel, points.new_ones(len(points)), len(voxels.coords))
        features: Tensor = self.vfe(rows)
        return features
