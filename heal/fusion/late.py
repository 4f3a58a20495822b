"""Late fusion: the boxes that agents have found alone come in, and the joint detections in the ego's frame go out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heal.detection.boxes import boxes_to_corners, transform_corners
from heal.detection.decode import DecodeConfig, select_detections
from heal.detection.detections import Detections
from heal.se3 import relative_SE3
from heal.types import Float64


@dataclass(frozen=True)
class AgentBoxes:
    """The boxes that an agent has found alone, duplicates included, as `DetectionHeads.candidates` returns them.

    Attributes:
        boxes: (K, 7) float32 x, y, z, h, w, l, yaw, metres and radians in the agent's frame.
        scores: (K,) float32.
        classes: (K,) int64.
        world_SE3_agent: (4, 4) float64, the pose that the agent measures.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    world_SE3_agent: Float64


def join_boxes(
    agents: Sequence[AgentBoxes], world_SE3_ego: Float64, config: DecodeConfig, gt_range_m: Sequence[float]
) -> Detections:
    """Move the boxes of agents into the ego's frame, and keep those that are possible, no duplicates, and wholly inside a range.

    Duplicates are suppressed once among the boxes of all agents, as in HEAL, those of each class for themselves.

    Args:
        agents: the boxes of each agent.
        world_SE3_ego: (4, 4) float64, the pose that the ego measures.
        config: thresholds.
        gt_range_m: as for `heal.detection.decode.select_detections`.

    Returns:
        Detections in the ego's frame, best first.
    """
    if not agents:
        return Detections.empty()
    corners = []
    for agent in agents:
        ego_SE3_agent = torch.from_numpy(relative_SE3(world_SE3_ego, agent.world_SE3_agent))
        corners.append(transform_corners(ego_SE3_agent.to(agent.boxes), boxes_to_corners(agent.boxes)))
    scores, classes = (torch.cat(parts) for parts in zip(*((agent.scores, agent.classes) for agent in agents), strict=True))
    return select_detections(torch.cat(corners), scores, classes, config, gt_range_m)
