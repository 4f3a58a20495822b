"""What a base needs of its detection heads: layers, the targets of labelled boxes, the loss, and boxes from the layers' output."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from heal.detection.decode import DecodeConfig, select_boxes
from heal.detection.detections import Detections
from heal.detection.head import HeadOutput
from heal.detection.loss import DetectionLoss, LossConfig
from heal.detection.targets import Targets
from heal.grid import BevGrid


class DetectionHeads(ABC):
    """A kind of detection heads on a grid. It holds settings; the weights are in the layers that it makes for a base."""

    def __init__(self, grid: BevGrid, config: DecodeConfig) -> None:
        """Take the grid of the heads' maps, and the thresholds for detections."""
        self.grid, self.config = grid, config

    @abstractmethod
    def layers(self, width: int) -> dict[str, nn.Module]:
        """Make the layers for maps of `width` channels, by the names under which a base stores their weights."""

    @abstractmethod
    def output(self, layers: Mapping[str, nn.Module], shrunk: Tensor) -> HeadOutput:
        """Run the layers on maps (B, width, ny, nx)."""

    @abstractmethod
    def targets(self, gt_boxes: Tensor) -> Targets:
        """Return the targets of one scene or agent for its labelled boxes (N, 7), metres and radians, in the grid's frame."""

    @abstractmethod
    def loss(self, head: HeadOutput, targets: Targets, config: LossConfig) -> DetectionLoss:
        """Compute the loss of the output for B scenes with the targets of the same scenes, the mean over the scenes."""

    @abstractmethod
    def candidates(self, head: HeadOutput) -> tuple[Tensor, Tensor]:
        """Decode all boxes of one scene that score more than the threshold, duplicates included.

        Returns:
            boxes: (K, 7) float32 x, y, z, h, w, l, yaw, metres and radians in the ego's frame, on the CPU.
            scores: (K,) float32, on the CPU.

        Raises:
            ValueError: `head` holds several scenes, or does not fit the grid.
        """

    def decode(self, head: HeadOutput, gt_range_m: Sequence[float]) -> Detections:
        """Decode the detections of one scene.

        Args:
            head: the output for one scene, in the ego's frame.
            gt_range_m: x_min, y_min, z_min, x_max, y_max, z_max; boxes that are not wholly inside are dropped.

        Returns:
            Detections in the ego's frame, best first, on the CPU.
        """
        return select_boxes(*self.candidates(head), self.config, gt_range_m)
