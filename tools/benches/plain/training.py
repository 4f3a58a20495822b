"""The training loss in its plain form: padded pillars, whole maps warped, losses over all anchors, and torch's own gradients.

Camera and SECOND encoders are our fast form; pillars, fusion, heads and losses are plain. All tensors are float32 and contiguous.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from heal.agent_model import AgentModel
from heal.base_model import BaseModel
from heal.collab_model import CollabBatch, CollabModel
from heal.detection.head import HeadOutput
from heal.detection.loss import LossConfig
from heal.detection.targets import AnchorTargets
from heal.encoders.coverage import fit_to_grid
from heal.encoders.lift_splat_depth import DepthPrediction
from heal.encoders.point_pillars import PointPillars
from heal.encoders.table import DepthEncoder
from heal.fusion.warp import coverage_mask
from heal.tools.benches.plain.encoders import point_pillars
from heal.tools.benches.plain.fusion import warp

Coverage = tuple[float, float] | None


def training_loss(
    model: CollabModel,
    inputs: CollabBatch,
    targets: AnchorTargets,
    agent_targets: AnchorTargets,
    loss: LossConfig,
    single_weight: float,
    anchors: Tensor,
) -> Tensor:
    """Compute the same as the total of `heal.training.step.training_loss`: a scalar with a gradient.

    Args:
        model: networks in train mode. A frozen base is in eval mode and needs no gradient.
        inputs: encoder inputs and poses of B scenes with M agents in total.
        targets: (B, ...) targets of the fused output.
        agent_targets: (M, ...) targets of every agent alone.
        loss: weights and parameters of the losses.
        single_weight: weight of the occupancy loss on every agent alone.
        anchors: (ny, nx, A, 7) x, y, z, h, w, l, yaw in metres and radians, in the ego's frame.
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
    """Compute the aligned feature maps (agents, C, ny, nx) of one agent type, and its depth prediction if it makes one."""
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
    """Run trunk, fusion and heads.

    Args:
        base: base network.
        features: (M, C, ny, nx) feature maps of all agents, scene by scene, each in the agent's frame.
        agent_SE3_ego: (M, 4, 4) float64, maps coordinates of the scene's ego into each agent's frame.
        agents_per_scene: number of agents in each of B scenes.
        coverage: per agent, the grid's lengths in x and y over those of the encoder's own range; None if it covers the grid.

    Returns:
        The head's output for B scenes in their egos' frames, and per level the foreground logits (M, 1, ny, nx) of all agents.
    """
    pyramid = base.pyramid
    levels = pyramid.trunk(features)
    fused = []
    for level, logits in zip(levels.maps, levels.occupancy, strict=True):
        score = logits.sigmoid() + 1e-4
        if not pyramid.training:
            score = score * _covered(coverage, score)
        warped, warped_score = (warp(part, agent_SE3_ego, base.config.grid) for part in (level, score))
        scenes = (torch.split(part, list(agents_per_scene)) for part in (warped, warped_score))
        fused.append(torch.cat([_weighted(*scene) for scene in zip(*scenes, strict=True)]))
    joined = torch.cat([pyramid.deblocks[i](level) for i, level in enumerate(fused)], dim=1)
    for further in list(pyramid.deblocks)[len(fused) :]:
        joined = further(joined)
    shrunk = base.shrink_conv(joined)
    return HeadOutput(*(layer(shrunk) for layer in base.head_layers.values())), levels.occupancy


def _covered(coverage: Sequence[Coverage], score: Tensor) -> Tensor:
    """Return a mask (M, 1, ny, nx) for scores of that shape: 1 in cells that an agent's encoder covers, 0 elsewhere."""
    ny, nx = score.shape[-2:]
    masks = [torch.ones(ny, nx) if ratio is None else coverage_mask(ratio, ny, nx) for ratio in coverage]
    return torch.stack(masks)[:, None].to(score)


def _weighted(maps: Tensor, scores: Tensor) -> Tensor:
    """Average the maps of one scene's agents with a softmax of their scores as weights.

    Args:
        maps: (M, C, ny, nx) in the ego's frame.
        scores: (M, 1, ny, nx) in the ego's frame. A cell with score 0 has weight 0.

    Returns:
        (1, C, ny, nx) in the ego's frame.
    """
    scored = scores != 0
    # In a cell without any score, minus infinity would give NaN. The lowest finite number does not.
    weights = scores.masked_fill(~scored, torch.finfo(scores.dtype).min).softmax(dim=0) * scored
    return (weights * maps).sum(dim=0, keepdim=True)


def detection_loss(head: HeadOutput, targets: AnchorTargets, loss: LossConfig, anchors: Tensor) -> Tensor:
    """Compute the same as the total of `heal.detection.loss.detection_loss`, over all anchors; many of them have weight 0.

    Args:
        head: the head's output for B scenes.
        targets: (B, ...) targets of all anchors.
        loss: weights and parameters.
        anchors: (ny, nx, A, 7) x, y, z, h, w, l, yaw in metres and radians.
    """
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


def occupancy_loss(occupancy: Sequence[Tensor], targets: AnchorTargets, loss: LossConfig) -> Tensor:
    """Compute the same as `heal.detection.loss.occupancy_loss`: the error of the foreground logits of every agent and level.

    Args:
        occupancy: per level (M, 1, ny, nx) foreground logits.
        targets: (M, ...) targets of every agent alone.
        loss: weights and parameters.
    """
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
    """Compute the same as `heal.detection.loss.depth_loss`, the focal loss of the depth bin of each feature.

    Args:
        logits: (images, D, h, w) logits of D depth bins.
        bins: (images, h, w) int64, true depth bin.
        loss: weights and parameters.
    """
    target = F.one_hot(bins, logits.shape[1]).permute(0, 3, 1, 2).float()
    if loss.smooth_depth:
        zeros = torch.zeros_like(target[:, :1])
        nearer, farther = torch.cat([target[:, 1:], zeros], dim=1), torch.cat([zeros, target[:, :-1]], dim=1)
        target = 0.9 * target + 0.2 * nearer + 0.2 * farther
    probability = logits.softmax(dim=1)
    focal = -loss.focal_alpha * (1 - probability) ** loss.focal_gamma * logits.log_softmax(dim=1)
    return loss.depth_weight * (focal * target).sum(dim=1).mean()


def _focal(logits: Tensor, target: Tensor, loss: LossConfig) -> Tensor:
    """Compute the focal loss (Lin et al. 2017) of each logit; `target` has the same shape and values 0 or 1."""
    probability = logits.sigmoid()
    right = target * probability + (1 - target) * (1 - probability)
    alpha = target * loss.focal_alpha + (1 - target) * (1 - loss.focal_alpha)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return alpha * (1 - right) ** loss.focal_gamma * entropy
