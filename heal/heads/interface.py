"""What a base needs of its detection heads: layers, the targets of labelled boxes, the loss, and boxes from the layers' output.

A base may have several classes. Then its layers have as many channels for each class as they have for one class alone, and each
class has its own targets, its own loss and its own boxes: a kind of heads only has to know one class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from heal.detection.decode import Candidates, DecodeConfig, select_boxes
from heal.detection.detections import Detections
from heal.detection.head import HeadOutput
from heal.detection.loss import DetectionLoss, LossConfig, at_least
from heal.detection.targets import ClassTargets, Targets
from heal.grid import BevGrid


class DetectionHeads(ABC):
    """A kind of detection heads on a grid. It holds settings; the weights are in the layers that it makes for a base."""

    def __init__(self, grid: BevGrid, config: DecodeConfig, weights: Sequence[float] = (1.0,)) -> None:
        """Take the grid of the heads' maps, the thresholds for detections, and the weight of each class in the loss."""
        self.grid, self.config, self._weights = grid, config, tuple(weights)

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self._weights)

    @abstractmethod
    def layers(self, width: int) -> dict[str, nn.Module]:
        """Make the layers for maps of `width` channels, by the names under which a base stores their weights.

        The channels of their outputs are those of the first class, then those of the second class, and so on.
        """

    @abstractmethod
    def output(self, layers: Mapping[str, nn.Module], shrunk: Tensor) -> HeadOutput:
        """Run the layers on maps (B, width, ny, nx)."""

    @abstractmethod
    def targets_of_class(self, gt_boxes: Tensor, number: int) -> Targets:
        """Return the targets of a class for its labelled boxes (N, 7)."""

    @abstractmethod
    def loss_of_class(self, head: HeadOutput, targets: Targets, config: LossConfig, number: int, counts: Tensor) -> DetectionLoss:
        """Compute the loss of the output for a class with the targets of this class, divided by the counts (B,) of the scenes."""

    @abstractmethod
    def candidates_of_class(self, head: HeadOutput, number: int) -> Candidates:
        """Decode the boxes of a class, as those of class 0, from the output for it."""

    def targets(self, gt_boxes: Tensor, gt_classes: Tensor) -> Targets:
        """Return the targets of one scene or agent.

        Args:
            gt_boxes: (N, 7) labelled boxes, metres and radians, in the grid's frame.
            gt_classes: (N,) their classes.
        """
        if self.classes == 1:
            return self.targets_of_class(gt_boxes, 0)
        numbers = range(self.classes)
        return ClassTargets(tuple(self.targets_of_class(gt_boxes[gt_classes == number], number) for number in numbers))

    def loss(self, head: HeadOutput, targets: Targets, config: LossConfig) -> DetectionLoss:
        """Compute the loss of the output for B scenes with the targets of the same scenes, the mean over the scenes.

        The losses of the classes are added by their weights. All are divided by the positive anchors or centres of all classes
        together: divided by its own, a class of which a scene has one object or none would outweigh all others.
        """
        counts = at_least(targets.positives, config)
        if not isinstance(targets, ClassTargets):
            return self.loss_of_class(head, targets, config, 0, counts)
        by_class = enumerate(zip(head.by_class(self.classes), targets.parts, strict=True))
        losses = [self.loss_of_class(one, part, config, number, counts) for number, (one, part) in by_class]
        return DetectionLoss.weighted(losses, self._weights)

    def candidates(self, head: HeadOutput) -> Candidates:
        """Decode all boxes of one scene that score more than the threshold, duplicates included.

        Returns:
            The boxes in the ego's frame, on the CPU, class after class.

        Raises:
            ValueError: `head` holds several scenes, or does not fit the grid.
        """
        found = [self.candidates_of_class(one, number) for number, one in enumerate(head.by_class(self.classes))]
        if len(found) == 1:
            return found[0]
        classes = [torch.full_like(part.classes, number) for number, part in enumerate(found)]
        boxes, scores = (torch.cat(parts) for parts in zip(*((part.boxes, part.scores) for part in found), strict=True))
        return Candidates(boxes, scores, torch.cat(classes))

    def decode(self, head: HeadOutput, gt_range_m: Sequence[float]) -> Detections:
        """Decode the detections of one scene.

        Args:
            head: the output for one scene, in the ego's frame.
            gt_range_m: x_min, y_min, z_min, x_max, y_max, z_max; boxes that are not wholly inside are dropped.

        Returns:
            Detections in the ego's frame, best first, on the CPU.
        """
        return select_boxes(*self.candidates(head), self.config, gt_range_m)
