"""Centre heads: objects are the peaks of a heatmap, and each peak's cell tells the box (Zhou et al. 2019; Yin et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from heal.detection.decode import Candidates, DecodeConfig
from heal.detection.head import HeadOutput
from heal.detection.loss import DetectionLoss, LossConfig
from heal.detection.targets import Targets
from heal.fusion.interface import RARE_LOGIT
from heal.grid import BevGrid
from heal.heads.center_loss import center_loss
from heal.heads.center_targets import CentersConfig, CenterTargets, center_targets, decode_centers
from heal.heads.interface import DetectionHeads


class CenterLayers(nn.Module):
    """A shared convolution and a branch for each output, as in CenterPoint (Yin et al. 2021, section 4).

    In CenterPoint the classes of a group share the codes of the box. Here each class has its own, because a pedestrian and a
    vehicle may have their centres in neighbouring cells.
    """

    def __init__(self, width: int, settings: CentersConfig, classes: int = 1) -> None:
        """Make the layers for maps of `width` channels, with outputs for so many classes."""
        super().__init__()
        channels = settings.channels
        self.shared = nn.Sequential(*_layer(width, channels))
        self.heatmap, self.box, self.heading = (
            nn.Sequential(*_layer(channels, channels), nn.Conv2d(channels, outputs * classes, 3, padding=1))
            for outputs in (1, 6 + settings.predicts_iou, 4)
        )
        nn.init.constant_(self.heatmap[-1].bias, RARE_LOGIT)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> HeadOutput:
        """Turn maps (B, width, ny, nx) into the output of the heads."""
        shared = self.shared(x)
        return HeadOutput(self.heatmap(shared), self.box(shared), self.heading(shared))


class CenterHeads(DetectionHeads):
    """Heads that find objects by their centres, without anchors."""

    def __init__(self, grid: BevGrid, config: DecodeConfig, settings: CentersConfig, weights: Sequence[float] = (1.0,)) -> None:
        """Take the grid of the heads' maps, the thresholds for detections, the settings, and the weight of each class."""
        super().__init__(grid, config, weights)
        self._settings = settings

    def layers(self, width: int) -> dict[str, nn.Module]:
        """Make the layers of all outputs as one network."""
        return {"center_head": CenterLayers(width, self._settings, self.classes)}

    def output(self, layers: Mapping[str, nn.Module], shrunk: Tensor) -> HeadOutput:
        """Run the network."""
        head: HeadOutput = layers["center_head"](shrunk)
        return head

    def targets_of_class(self, gt_boxes: Tensor, number: int) -> Targets:
        """Draw the peaks and the codes of labelled boxes."""
        return center_targets(gt_boxes, self.grid, self._settings)

    def loss_of_class(self, head: HeadOutput, targets: Targets, config: LossConfig, number: int, counts: Tensor) -> DetectionLoss:
        """Compute the loss of the heatmap, and of the codes at centres."""
        assert isinstance(targets, CenterTargets)
        return center_loss(head, targets, config, self.grid, counts)

    def candidates_of_class(self, head: HeadOutput, number: int) -> Candidates:
        """Decode the boxes of all cells that score more than the threshold and no less than the eight cells around them."""
        if head.classification.shape != (1, 1, self.grid.ny, self.grid.nx):
            raise ValueError(
                f"decode: expected the heatmap of one scene, (1, 1, {self.grid.ny}, {self.grid.nx}), "
                f"got {tuple(head.classification.shape)}"
            )
        logits = head.classification.float()
        peaks = (logits == functional.max_pool2d(logits, 3, stride=1, padding=1))[0, 0]
        scores = self._scores(logits[0, 0], head)
        row, column = (peaks & (scores > self.config.score_threshold)).nonzero(as_tuple=True)
        codes = torch.cat((head.regression[0, :6], head.direction[0]))[:, row, column].T.float()
        boxes = decode_centers(codes.cpu(), torch.stack((column, row), dim=1).cpu(), self.grid)
        return Candidates(boxes, scores[row, column].cpu(), torch.zeros(len(boxes), dtype=torch.int64))

    def _scores(self, logits: Tensor, head: HeadOutput) -> Tensor:
        """Return the scores (ny, nx) of the boxes of all cells."""
        share = self._settings.iou_exponent
        if not share:
            return logits.sigmoid()
        return logits.sigmoid() ** (1 - share) * head.regression[0, 6].float().sigmoid() ** share


def _layer(in_channels: int, channels: int) -> tuple[nn.Module, ...]:
    """Return a 3x3 convolution, a batch norm and a ReLU."""
    return nn.Conv2d(in_channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
