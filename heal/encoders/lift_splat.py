"""Lift-Splat: every pixel's feature is spread over the pixel's possible depths, and summed in the cells of a map seen from above.

Philion and Fidler, ECCV 2020. Where there are depth images, depth is learned from them too (Reading et al., CVPR 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from heal.config import config
from heal.encoders.covered import camera_blocks
from heal.encoders.images import CameraBatch, ImageConfig, camera_batch, views_of
from heal.encoders.lift_splat_depth import DepthBinsConfig, DepthPrediction, bin_depths, depth_to_bins, sample_at_features
from heal.encoders.lift_splat_pool import frustum, frustum_in_agent, splat
from heal.encoders.lift_splat_trunk import ImageNetwork, ImageTrunk
from heal.encoders.trunk_weights import PACKAGED_TRUNK
from heal.errors import UserError
from heal.grid import BevGrid, Range
from heal.types import AgentFrame, BoolMask


@config
class LiftSplatConfig:
    """The encoder's settings; the defaults are the paper's agent type m2 on OPV2V.

    Attributes:
        kind: names this encoder.
        cameras: names of the cameras that are used; if empty, all cameras of an agent.
        image: size of the network's input, and variation in training.
        trunk: name of a network in timm.
        downsample: pixels per feature along an edge, which is the stride of the finest scale of the trunk that is used.
        trunk_stride: stride of the coarsest scale of the trunk that is used.
        drop_path: probability with which the trunk's last block is left out in training; it falls to zero at the first block.
        norm_momentum: momentum of the trunk's batch norms.
        classifier: keep the trunk's classifier, whose output is not used; HEAL's checkpoints contain one.
        pretrained: weights with which the trunk of a new agent type begins its training. `imagenet`: those of an installed package
            where there is one for the trunk (`tf_efficientnet_lite0`), else those of timm; true: those of timm, from its cache or
            from the internet; false (in YAML also off): random weights; any other text: a file with weights.
        neck_channels: channels of the maps in which the trunk's scales are merged.
        channels: channels of the encoder's map.
        depth: bins of depth.
        depth_supervision: learn depth from depth images too.
        range_m: x_min, y_min, z_min, x_max, y_max, z_max of the map, the encoder's own range; the alliance's range may differ.
        cell_m: edge of a cell of the map.
    """

    senses: ClassVar[str] = "camera"
    kind: Literal["lift_splat"] = "lift_splat"
    cameras: tuple[str, ...] = ()
    image: ImageConfig = ImageConfig()
    trunk: str = "tf_efficientnet_b0"
    downsample: int = 8
    trunk_stride: int = 32
    drop_path: float = 0.2
    norm_momentum: float = 0.01
    classifier: bool = False
    pretrained: bool | str = True
    neck_channels: int = 512
    channels: int = 128
    depth: DepthBinsConfig = DepthBinsConfig()
    depth_supervision: bool = True
    range_m: Range = (-51.2, -51.2, -10.0, 51.2, 51.2, 10.0)
    cell_m: float = 0.4

    def __post_init__(self) -> None:
        """Raise ValueError if the range is no valid grid, or if the settings of the images do not fit the others."""
        BevGrid(self.range_m, self.cell_m)
        if any(edge % self.downsample for edge in self.image.size):
            raise UserError(
                f"image.size: expected multiples of downsample ({self.downsample}), got {self.image.size}; "
                f"take {tuple(max(round(edge / self.downsample), 1) * self.downsample for edge in self.image.size)}"
            )
        if self.pretrained == "imagenet" and self.trunk == PACKAGED_TRUNK and self.image.colours != "signed":
            raise UserError(
                f"encoder.pretrained=imagenet: the weights of {PACKAGED_TRUNK} expect colours from -1 to 1, got image.colours="
                f"{self.image.colours}; set image.colours=signed"
            )

    @property
    def out_channels(self) -> int:
        """Channels of the map."""
        return self.channels

    def coverage(self, grid: BevGrid) -> tuple[float, float]:
        """Return the range of the alliance's `grid` divided by the encoder's own range, in x and y."""
        return grid.range_m[3] / self.range_m[3], grid.range_m[4] / self.range_m[4]

    def covered_blocks(self, frame: AgentFrame, grid: BevGrid) -> BoolMask:
        """Return the blocks (rows, columns) of the grid that the agent's cameras see; none without images."""
        views = views_of(frame, self.cameras) if frame.cameras else ()
        return camera_blocks(views, grid, self.range_m, self.depth.end_m)


class LiftSplat(nn.Module):
    """The encoder, from camera images to a map of the encoder's own range; the agent model fits the map to the alliance's grid."""

    def __init__(self, settings: LiftSplatConfig, grid: BevGrid) -> None:
        """Make the networks with random weights; the alliance's `grid` has no influence on them."""
        super().__init__()
        self.settings = settings
        self.own_grid = BevGrid(settings.range_m, settings.cell_m)
        strides = (settings.downsample, settings.trunk_stride)
        trunk = ImageTrunk(settings.trunk, strides, settings.drop_path, settings.norm_momentum, settings.classifier)
        self.camencode = ImageNetwork(trunk, settings.neck_channels, settings.channels, settings.depth.count)

    @property
    def cell_m(self) -> tuple[float, float]:
        """Edges of a cell of the map, in x and y."""
        return self.settings.cell_m, self.settings.cell_m

    def load_pretrained(self) -> None:
        """Load the trunk's weights that `settings.pretrained` names, if any; errors as in `ImageTrunk.load_pretrained`."""
        source = self.settings.pretrained
        if source:
            self.camencode.trunk.load_pretrained("timm" if source is True else source)

    def prepare(self, frames: Sequence[AgentFrame], rng: np.random.Generator | None = None) -> CameraBatch:
        """Prepare the agents' images, see `camera_batch`.

        Args:
            frames: one for every agent.
            rng: varies the images in training; None in evaluation.

        Raises:
            ValueError: an agent lacks camera images, or in training the depth images that the encoder learns from.
        """
        return camera_batch(frames, self.settings.image, self.settings.cameras, self.settings.depth_supervision, rng)

    def forward(self, cameras: CameraBatch) -> Tensor:
        """Return the feature maps (agents, C, ny, nx)."""
        return self.forward_with_depth(cameras)[0]

    def forward_with_depth(self, cameras: CameraBatch) -> tuple[Tensor, DepthPrediction]:
        """Return the feature maps (agents, C, ny, nx) and, for the loss, the predicted depth of every feature.

        Raises:
            ValueError: the images are not of the size that the encoder was made for.
        """
        self._require_size(cameras.images)
        features, logits = self.camencode(cameras.images)
        # Always in single precision: at fifty metres, half precision misplaces a pixel by a cell.
        with torch.autocast(features.device.type, enabled=False):
            points = frustum_in_agent(self._frustum().to(features.device), cameras)
            maps = splat(features, logits.float().softmax(dim=1), points, cameras, self.own_grid)
        return maps, DepthPrediction(logits, self._true_bins(cameras))

    def _frustum(self) -> Tensor:
        """Return the places (D, h, w, 3) of every feature at every depth: pixel x, pixel y, depth in metres."""
        return frustum(self.settings.image.size, self.settings.downsample, bin_depths(self.settings.depth))

    def _true_bins(self, cameras: CameraBatch) -> Tensor | None:
        """Return the depth bin (M, h, w) of every feature from the depth images; None if depth is not learned from them."""
        if cameras.depth_m is None or not self.settings.depth_supervision:
            return None
        return depth_to_bins(sample_at_features(cameras.depth_m, self.settings.downsample), self.settings.depth)

    def _require_size(self, images: Tensor) -> None:
        """Raise ValueError unless the images have the size that the encoder was made for."""
        expected = (3, *self.settings.image.size)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            raise ValueError(
                f"expected images of shape (any, {', '.join(map(str, expected))}), got {tuple(images.shape)}; "
                "`prepare` makes them so from cameras of any size"
            )
