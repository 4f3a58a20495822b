"""Anchor heads, as in HEAL: scores, codes and direction bins for every anchor of every cell, by three 1x1 convolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from heal.detection.anchors import AnchorConfig, make_anchors
from heal.detection.decode import Candidates, DecodeConfig, decode_candidates
from heal.detection.head import HeadOutput
from heal.detection.loss import DetectionLoss, LossConfig, detection_loss
from heal.detection.targets import AnchorTargets, TargetConfig, Targets, assign_targets
from heal.fusion.interface import RARE_LOGIT
from heal.grid import BevGrid
from heal.heads.interface import DetectionHeads


@dataclass(frozen=True)
class AnchorClass:
    """The anchors of a class, the thresholds for positive and negative ones, and the weight of the class in the loss."""

    anchors: AnchorConfig
    targets: TargetConfig
    weight: float = 1.0


class AnchorHeads(DetectionHeads):
    """Heads that predict boxes as differences from anchors."""

    def __init__(self, grid: BevGrid, config: DecodeConfig, classes: Sequence[AnchorClass], bins: int) -> None:
        """Take the settings.

        Args:
            grid: of the heads' maps.
            config: thresholds for detections.
            classes: the anchors of each class and their thresholds; all classes have as many anchors.
            bins: direction bins.
        """
        super().__init__(grid, config, [one.weight for one in classes])
        self._classes, self._bins = tuple(classes), bins

    @cached_property
    def anchors(self) -> tuple[Tensor, ...]:
        """The anchors of each class, (ny, nx, A, 7) float64, in the ego's frame, on the CPU."""
        return tuple(make_anchors(self.grid, one.anchors) for one in self._classes)

    def layers(self, width: int) -> dict[str, nn.Module]:
        """Make the three convolutions, under the names that HEAL stores their weights by."""
        count = sum(len(one.anchors.yaws_deg) for one in self._classes)
        classification = nn.Conv2d(width, count, 1)
        nn.init.constant_(classification.bias, RARE_LOGIT)  # type: ignore[arg-type]
        regression, direction = nn.Conv2d(width, 7 * count, 1), nn.Conv2d(width, self._bins * count, 1)
        return {"cls_head": classification, "reg_head": regression, "dir_head": direction}

    def output(self, layers: Mapping[str, nn.Module], shrunk: Tensor) -> HeadOutput:
        """Run the three convolutions as one, because each of them reads the whole map."""
        heads = [layer for layer in layers.values() if isinstance(layer, nn.Conv2d)]
        weight, bias = (torch.cat([getattr(head, name) for head in heads]) for name in ("weight", "bias"))
        return HeadOutput(*torch.split(F.conv2d(shrunk, weight, bias), [head.out_channels for head in heads], dim=1))

    def targets_of_class(self, gt_boxes: Tensor, number: int) -> Targets:
        """Assign the anchors to labelled boxes."""
        return assign_targets(self.anchors[number], gt_boxes, self._classes[number].targets)

    def loss_of_class(self, head: HeadOutput, targets: Targets, config: LossConfig, number: int, counts: Tensor) -> DetectionLoss:
        """Compute the loss of positive and negative anchors."""
        assert isinstance(targets, AnchorTargets)
        return detection_loss(head, targets, config, self.anchors[number], counts)

    def candidates_of_class(self, head: HeadOutput, number: int) -> Candidates:
        """Decode the boxes of all anchors that score more than the threshold."""
        return decode_candidates(head, self.anchors[number], self.config)
