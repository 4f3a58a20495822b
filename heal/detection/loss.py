"""Training losses: detection, foreground occupancy of the pyramid's levels, and depth of camera encoders (HEAL, section 3.2).

All losses are computed in float32, whatever the precision of the heads. Only positive anchors enter the box losses, so positive
anchors are selected first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from heal.box_corners import YAW
from heal.config import config, later
from heal.detection.head import HeadOutput
from heal.detection.targets import AnchorTargets, Targets
from heal.errors import UserError

# Weights of the true depth bin and of its two neighbours where the target is smoothed.
_SMOOTH_CENTRE, _SMOOTH_SIDE = 0.9, 0.2


@config
class LossConfig:
    """Weights and parameters of the losses.

    Attributes:
        classification_weight: focal loss of the scores.
        regression_weight: smooth L1 of the seven codes of anchors; L1 of all codes of centre heads, those of the yaw included.
        direction_weight: cross entropy of the direction bins, which centre heads do not have.
        depth_weight: focal loss of the depth bins.
        occupancy_weights: focal loss of the foreground of each level, from the finest on; further weights are not used.
        positive_weight: weight of positive anchors and cells, relative to negative ones; not for the heatmap of centre heads.
        focal_alpha: share of the positive class in focal losses; not for the heatmap of centre heads.
        focal_gamma: exponent of focal losses.
        smooth_l1_sigma: the regression loss is quadratic below 1 / sigma^2.
        direction_offset_rad: yaw at which the first direction bin begins.
        smooth_depth: give the neighbours of the true depth bin some weight too.
        distillation_weight: divergence from the maps of a teacher, `training.teacher`; DiscoNet's weight, see
            `heal.training.distillation`.
        least_positives: the losses of an item are divided by its positive anchors, centres or cells, but by no fewer than this. At
            HEAL's 1, an item with a single vehicle weighs as much as one with twenty. A type that is taught only its own small
            range has many such items.
    """

    classification_weight: float = 1.0
    regression_weight: float = 2.0
    direction_weight: float = 0.2
    depth_weight: float = 1.0
    occupancy_weights: tuple[float, ...] = (0.4, 0.2, 0.1)
    positive_weight: float = 2.0
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    smooth_l1_sigma: float = 3.0
    direction_offset_rad: float = 0.7853
    smooth_depth: bool = False
    least_positives: int = 1
    distillation_weight: float = later(10000.0)

    def __post_init__(self) -> None:
        """Check the divisor of the losses."""
        if self.least_positives < 1:
            raise UserError(f"loss.least_positives: expected at least 1, got {self.least_positives}")


@dataclass(frozen=True)
class DetectionLoss:
    """The weighted parts of the detection loss, scalars; `total` is the sum of the other three and carries the gradient."""

    total: Tensor
    classification: Tensor
    regression: Tensor
    direction: Tensor

    @staticmethod
    def weighted(losses: Sequence[DetectionLoss], weights: Sequence[float]) -> DetectionLoss:
        """Return the weighted sum of losses, part by part."""
        factors = losses[0].total.new_tensor(weights)
        parts = (torch.stack([getattr(loss, one.name) for loss in losses]) for one in fields(DetectionLoss))
        return DetectionLoss(*((part * factors).sum() for part in parts))


def detection_loss(
    head: HeadOutput, targets: AnchorTargets, config: LossConfig, anchors: Tensor, counts: Tensor | None = None
) -> DetectionLoss:
    """Compute the loss of the output of anchor heads, the mean over the scenes of a batch.

    Args:
        head: the output for B scenes.
        targets: the targets of the same B scenes.
        config: weights of the parts.
        anchors: (ny, nx, A, 7); only their yaws are used.
        counts: (B,) float32, what the losses of each scene are divided by; None for the positive anchors of the targets.

    Returns:
        The parts, float32 scalars; finite even without any positive anchor.
    """
    scenes, count = len(targets.positive), targets.positive.shape[-1]
    counts = at_least(targets.positives, config) if counts is None else counts
    logits = head.classification.permute(0, 2, 3, 1)
    focal = _weighted_focal_loss(logits, targets.positive, targets.negative, config, counts)
    classification = focal * config.classification_weight
    scene, row, column, anchor = targets.positive.nonzero(as_tuple=True)
    weight = (1.0 / counts)[scene] / scenes
    codes = _by_anchor(head.regression, count)[scene, row, column, anchor].float()
    wanted = targets.regression.view(*targets.positive.shape, 7)[scene, row, column, anchor].to(codes)
    regression = (_box_loss(codes, wanted, config.smooth_l1_sigma) * weight).sum() * config.regression_weight
    bins = _by_anchor(head.direction, count)[scene, row, column, anchor].float()
    yaw = wanted[:, YAW] + anchors[0, 0, :, YAW].to(wanted)[anchor]
    direction = (_direction_loss(bins, yaw, config.direction_offset_rad) * weight).sum() * config.direction_weight
    return DetectionLoss(classification + regression + direction, classification, regression, direction)


def occupancy_loss(occupancy: tuple[Tensor, ...], targets: Targets, config: LossConfig) -> Tensor:
    """Compute the loss of the foreground logits of the pyramid's levels, the mean over the agents.

    A cell of a level is foreground if any of its cells on the grid is foreground, background if all of them are background.

    Args:
        occupancy: per level, from the finest on, logits (M, 1, ny / k, nx / k) of M agents.
        targets: each agent's targets from its own labels.
        config: weights of the levels.

    Returns:
        A float32 scalar.

    Raises:
        ValueError: the number of levels or their sizes do not fit.
    """
    if len(occupancy) > len(config.occupancy_weights):
        raise UserError(
            f"occupancy_loss: expected a weight for each level, got {config.occupancy_weights} for {len(occupancy)} levels"
        )
    foreground = targets.foreground[:, None].float()
    not_background = (~targets.background)[:, None].float()
    total = occupancy[0].new_zeros((), dtype=torch.float32)
    for logits, weight in zip(occupancy, config.occupancy_weights, strict=False):
        size = foreground.shape[-1] // logits.shape[-1]
        positive = functional.max_pool2d(foreground, size, ceil_mode=True) > 0
        negative = functional.max_pool2d(not_background, size, ceil_mode=True) == 0
        if logits.shape != positive.shape:
            raise ValueError(
                f"occupancy_loss: expected logits {tuple(positive.shape)} at 1/{size} of the grid, got {tuple(logits.shape)}"
            )
        counts = at_least(positive.flatten(1).sum(dim=1), config)
        total = total + weight * _weighted_focal_loss(logits, positive, negative, config, counts)
    return total


def depth_loss(logits: Tensor, bins: Tensor, config: LossConfig) -> Tensor:
    """Compute the focal loss of the depth bins of one camera agent type, the mean over its pixels.

    Args:
        logits: (images, D, h, w).
        bins: (images, h, w) int64, the true bin.
        config: weights; `focal_alpha` weighs every bin here.

    Returns:
        A float32 scalar.
    """
    log_probability = logits.float().log_softmax(dim=1)
    focal = -config.focal_alpha * (1 - log_probability.exp()) ** config.focal_gamma * log_probability
    if not config.smooth_depth:
        return focal.gather(1, bins[:, None]).mean() * config.depth_weight
    target = _smooth(functional.one_hot(bins, logits.shape[1]).movedim(-1, 1).float())
    return (focal * target).sum(dim=1).mean() * config.depth_weight


def sigmoid_focal_loss(logits: Tensor, positive: Tensor, alpha: float, gamma: float) -> Tensor:
    """Compute the focal loss of each logit (Lin et al. 2017, equation 5).

    Args:
        logits: any shape.
        positive: bool of the same shape: the logits whose probability should be 1.
        alpha: weight of the positive logits; the others have the weight 1 - alpha.
        gamma: exponent.

    Returns:
        The same shape, float32.
    """
    logits = logits.float()
    signed = torch.where(positive, logits, -logits)
    share = torch.where(positive, alpha, 1.0 - alpha)
    return share * torch.sigmoid(-signed) ** gamma * functional.softplus(-signed)


def direction_bins(yaw: Tensor, bins: int, offset_rad: float) -> Tensor:
    """Return the sector, int64, of each yaw (radians) among `bins` equal sectors, the first of which begins at `offset_rad`."""
    # The same quotient as in `settle_yaw`: where rounding decides at a border, both must decide alike, or the box is turned around.
    return ((yaw - offset_rad) / (2 * math.pi / bins)).floor().long() % bins


def _weighted_focal_loss(logits: Tensor, positive: Tensor, negative: Tensor, config: LossConfig, counts: Tensor) -> Tensor:
    """Compute the focal loss of positive and negative entries (B, ...), divided by counts (B,) of items; the mean over items."""
    weight = config.positive_weight * positive.float() + negative.float()
    loss = sigmoid_focal_loss(logits, positive, config.focal_alpha, config.focal_gamma) * weight
    return (loss.flatten(1).sum(dim=1) / counts).mean()


def at_least(positives: Tensor, config: LossConfig) -> Tensor:
    """Return the numbers of positive entries (B,) as float32, at least `least_positives`: what losses are divided by."""
    return positives.clamp(min=config.least_positives).float()


def _by_anchor(output: Tensor, count: int) -> Tensor:
    """Rearrange head output (B, A * K, ny, nx) as (B, ny, nx, A, K)."""
    channels_last = output.permute(0, 2, 3, 1)
    return channels_last.view(*channels_last.shape[:3], count, -1)


def _box_loss(codes: Tensor, wanted: Tensor, sigma: float) -> Tensor:
    """Compute the smooth L1 loss of codes (K, 7), summed; (K,). Yaws are compared by sine, so opposite headings are equal."""
    difference = torch.cat((codes[:, :YAW] - wanted[:, :YAW], (codes[:, YAW:] - wanted[:, YAW:]).sin()), dim=1).abs()
    border = 1.0 / sigma**2
    return torch.where(difference < border, 0.5 * (sigma * difference) ** 2, difference - 0.5 * border).sum(dim=1)


def _direction_loss(logits: Tensor, yaw: Tensor, offset_rad: float) -> Tensor:
    """Compute the cross entropy of the direction bins (K, bins) with the true yaw (K,); (K,)."""
    return functional.cross_entropy(logits, direction_bins(yaw, logits.shape[1], offset_rad), reduction="none")


def _smooth(one_hot: Tensor) -> Tensor:
    """Spread a one-hot target (images, D, h, w) over the neighbouring bins."""
    side = functional.pad(one_hot, (0, 0, 0, 0, 1, 1)) * _SMOOTH_SIDE
    return one_hot * _SMOOTH_CENTRE + side[:, :-2] + side[:, 2:]
