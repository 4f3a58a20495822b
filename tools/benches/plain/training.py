"""The training loss as one writes it first: padded pillars, whole maps moved, dense losses over all anchors, torch's own gradients.

Camera and SECOND encoders run as they are; pillars, fusion, heads and losses are plain. All of it is float32 and contiguous.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from heal.agent_model import AgentModel, DepthEncoder
from heal.base_model import BaseModel
from heal.collab_model import CollabBatch, CollabModel
from heal.detection.head import HeadOutput
from heal.detection.loss import LossConfig
from heal.detection.targets import Targets
from heal.encoders.coverage import fit_to_grid
from heal.encoders.lift_splat_depth import DepthPrediction
from heal.encoders.point_pillars import PointPillars
from heal.fusion.warp import coverage_mask
from heal.tools.benches.plain.encoders import point_pillars
from heal.tools.benches.plain.fusion import warp

Coverage = tuple[float, float] | None


def training_loss(
    model: CollabModel,
    inputs: CollabBatch,
    targets: Targets,
    agent_targets: Targets,
    loss: LossConfig,
    single_weight: float,
    anchors: Tensor,
) -> Tensor:
    """As the total of `heal.tools.training.loop.training_loss`, a scalar that carries the gradient.

    Args:
        model: in train mode; a frozen base is one that has been set to eval mode and to need no gradient.
        inputs: B scenes with M agents in all.
        targets: (B, ...) of the fused output.
        agent_targets: (M, ...) of every agent alone.
        loss: the weights.
        single_weight: of the agents' own foreground.
        anchors: (ny, nx, A, 7).
    """
    maps: dict[str, Tensor] = {}
    depths: list[DepthPrediction] = []
    for name, part in inputs.inputs.items():
        maps[name], depth = _encode(model.agent(name), part)
        depths += [] if depth is None else [depth]
    rows = {name: iter(torch.split(part, 1)) for name, part in maps.items()}
    features = torch.cat([next(rows[name]) for name in inputs.agent_types])
    coverage = [model.agent(name).coverage for name in inputs.agent_types]
    head, occupancy = _detect(model.base, features, inputs.agent_SE3_ego, inputs.agents_per_scene, coverage)
    total = detection_loss(head, targets, loss, anchors) + single_weight * occupancy_loss(occupancy, agent_targets, loss)
    for depth in depths:
        if depth.bins is not None:
            total = total + depth_loss(depth.logits, depth.bins, loss)
    return total


def _encode(agent: AgentModel, inputs: Any) -> tuple[Tensor, DepthPrediction | None]:
    """The aligned maps (agents, C, ny, nx) of one type, and what it thinks of depth."""
    depth: DepthPrediction | None = None
    if isinstance(agent.encoder, PointPillars):
        maps = point_pillars(agent.encoder, inputs)
    elif isinstance(agent.encoder, DepthEncoder):
        maps, depth = agent.encoder.forward_with_depth(inputs)
    else:
        maps = agent.encoder(inputs)
    aligned: Tensor = agent.aligner(agent.backbone(maps.contiguous()))
    return (aligned if agent.coverage is None else fit_to_grid(aligned, agent.grid)), depth


def _detect(
    base: BaseModel, features: Tensor, agent_SE3_ego: Tensor, agents_per_scene: Sequence[int], coverage: Sequence[Coverage]
) -> tuple[HeadOutput, tuple[Tensor, ...]]:
    """The head's output for B scenes, and per level the foreground logits of all M agents."""
    pyramid = base.pyramid_backbone
    levels = pyramid.trunk(features)
    fused = []
    for level, logits in zip(levels.maps, levels.occupancy, strict=True):
        score = logits.sigmoid() + 1e-4
        if not pyramid.training:
            score = score * _covered(coverage, score)
        moved, moved_score = (warp(part, agent_SE3_ego, base.config.grid) for part in (level, score))
        scenes = (torch.split(part, list(agents_per_scene)) for part in (moved, moved_score))
        fused.append(torch.cat([_weighted(*scene) for scene in zip(*scenes, strict=True)]))
    joined = torch.cat([pyramid.deblocks[i](level) for i, level in enumerate(fused)], dim=1)
    for further in list(pyramid.deblocks)[len(fused) :]:
        joined = further(joined)
    shrunk = base.shrink_conv(joined)
    return HeadOutput(base.cls_head(shrunk), base.reg_head(shrunk), base.dir_head(shrunk)), levels.occupancy


def _covered(coverage: Sequence[Coverage], score: Tensor) -> Tensor:
    """(M, 1, ny, nx) ones where an agent's sensors reach, zeros elsewhere."""
    ny, nx = score.shape[-2:]
    masks = [torch.ones(ny, nx) if ratio is None else coverage_mask(ratio, ny, nx) for ratio in coverage]
    return torch.stack(masks)[:, None].to(score)


def _weighted(maps: Tensor, scores: Tensor) -> Tensor:
    """One scene's (1, C, ny, nx) of its agents' maps (M, C, ny, nx), by a softmax of their scores where they are not zero."""
    speaks = scores != 0
    # The lowest number rather than minus infinity: where nobody speaks that one has no gradient.
    weights = scores.masked_fill(~speaks, torch.finfo(scores.dtype).min).softmax(dim=0) * speaks
    return (weights * maps).sum(dim=0, keepdim=True)


def detection_loss(head: HeadOutput, targets: Targets, loss: LossConfig, anchors: Tensor) -> Tensor:
    """As the total of `heal.detection.loss.detection_loss`: all anchors take part, those that are not positive with weight 0."""
    scenes, count = targets.positive.shape[0], targets.positive.shape[3]
    positive, negative = (mask.reshape(scenes, -1).float() for mask in (targets.positive, targets.negative))
    objects = positive.sum(dim=1, keepdim=True).clamp(min=1)
    logits = head.classification.permute(0, 2, 3, 1).reshape(scenes, -1)
    weights = (loss.positive_weight * positive + negative) / objects
    total = loss.classification_weight * (_focal(logits, positive, loss) * weights).sum() / scenes

    codes = head.regression.permute(0, 2, 3, 1).reshape(scenes, -1, 7)
    wanted = targets.regression.reshape(scenes, -1, 7)
    yaws = torch.sin(codes[..., 6]) * torch.cos(wanted[..., 6]) - torch.cos(codes[..., 6]) * torch.sin(wanted[..., 6])
    difference = torch.cat([codes[..., :6] - wanted[..., :6], yaws[..., None]], dim=2).abs()
    border = 1 / loss.smooth_l1_sigma**2
    smooth = torch.where(difference < border, difference**2 * 0.5 / border, difference - 0.5 * border).sum(dim=2)
    total = total + loss.regression_weight * (smooth * positive / objects).sum() / scenes

    bins = head.direction.shape[1] // count
    directions = head.direction.permute(0, 2, 3, 1).reshape(scenes, -1, bins)
    yaw = wanted[..., 6] + anchors[..., 6].reshape(-1).to(wanted)
    turned = torch.remainder(yaw - loss.direction_offset_rad, 2 * math.pi) / (2 * math.pi / bins)
    one_hot = F.one_hot(turned.floor().long().clamp(0, bins - 1), bins).float()
    entropy = -(one_hot * directions.log_softmax(dim=2)).sum(dim=2)
    return total + loss.direction_weight * (entropy * positive / objects).sum() / scenes


def occupancy_loss(occupancy: Sequence[Tensor], targets: Targets, loss: LossConfig) -> Tensor:
    """As `heal.detection.loss.occupancy_loss`: foreground of every level (M, 1, ny, nx) against that of the agents' own targets."""
    positive = targets.positive.any(dim=3)[:, None].float()
    ignored = (~targets.negative.all(dim=3))[:, None].float()
    total = occupancy[0].new_zeros(())
    for logits, weight in zip(occupancy, loss.occupancy_weights, strict=True):
        size = positive.shape[-1] // logits.shape[-1]
        foreground = F.max_pool2d(positive, size, ceil_mode=True)
        background = 1 - F.max_pool2d(ignored, size, ceil_mode=True)
        objects = foreground.sum(dim=(1, 2, 3), keepdim=True).clamp(min=1)
        weights = (loss.positive_weight * foreground + background) / objects
        total = total + weight * (_focal(logits, foreground, loss) * weights).sum() / len(logits)
    return total


def depth_loss(logits: Tensor, bins: Tensor, loss: LossConfig) -> Tensor:
    """As `heal.detection.loss.depth_loss`: logits (images, D, h, w), the true bins (images, h, w)."""
    target = F.one_hot(bins, logits.shape[1]).permute(0, 3, 1, 2).float()
    if loss.smooth_depth:
        nothing = torch.zeros_like(target[:, :1])
        nearer, farther = torch.cat([target[:, 1:], nothing], dim=1), torch.cat([nothing, target[:, :-1]], dim=1)
        target = 0.9 * target + 0.2 * nearer + 0.2 * farther
    probability = logits.softmax(dim=1)
    focal = -loss.focal_alpha * (1 - probability) ** loss.focal_gamma * logits.log_softmax(dim=1)
    return loss.depth_weight * (focal * target).sum(dim=1).mean()


def _focal(logits: Tensor, target: Tensor, loss: LossConfig) -> Tensor:
    """Focal loss of every logit against 0 or 1 (Lin et al. 2017)."""
    probability = logits.sigmoid()
    right = target * probability + (1 - target) * (1 - probability)
    alpha = target * loss.focal_alpha + (1 - target) * (1 - loss.focal_alpha)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return alpha * (1 - right) ** loss.focal_gamma * entropy
