"""Distillation: a trained network of early fusion teaches the fused map of a network that fuses feature maps.

DiscoNet (Li et al., NeurIPS 2021, section 3.3) is trained so; any fusion whose fused map has the shape of the teacher's can be.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from heal.agent_model import AgentModel
from heal.base_model import BaseModel, BaseOutput
from heal.collab_model import CollabModel
from heal.errors import UserError
from heal.layers.inference import for_inference


def make_teacher(base: BaseModel, agent_type: str, agent: AgentModel) -> CollabModel:
    """Make the teacher of a base and the agent type that read the joint clouds in its training; it never learns itself."""
    teacher = CollabModel(for_inference(base), {agent_type: for_inference(agent)})
    return teacher.requires_grad_(False).eval()


def require_teacher(student: BaseModel, teacher: CollabModel) -> None:
    """Raise UserError if a teacher's type does not read LiDAR alone, or its maps have other shapes than the student's."""
    [name] = teacher.agents
    sensor = teacher.agent(name).sensor
    if sensor.cameras or not sensor.lidar:
        raise UserError(f"training.teacher: expected a type that reads LiDAR alone, and the teacher's {name} reads cameras")
    ours, theirs = _maps_of(student), _maps_of(teacher.base)
    if ours != theirs:
        raise UserError(
            f"training.teacher: the maps of teacher and student must have the same shapes, {ours}, and the teacher has {theirs}; "
            "give both the same grid, fused channels and heads"
        )


def _maps_of(base: BaseModel) -> dict[str, object]:
    """Return what decides on the shapes of the maps that are compared."""
    settings = base.config
    size = settings.grid.range_m, settings.grid.cell_m
    heads = len(settings.anchors.yaws_deg) if settings.heads is None else settings.heads
    return {"grid": size, "channels": base.fusion.out_channels, "heads": heads, "classes": settings.class_names}


def distillation_loss(student: BaseOutput, teacher: BaseOutput) -> Tensor:
    """Return how far the student's maps are from the teacher's, the sum for the fused map, the scores and the box codes.

    Of each pair it is the divergence (Kullback and Leibler) of the softmax over channels in every cell, the mean over all numbers
    of the map (pixels and channels), with which the weight of 10000 goes. It is 0 for equal maps. A softmax over a single channel
    is always 1, so the scores of one box for each cell are compared as the shares of vehicles and of the rest.
    """
    pairs = (
        (student.fused, teacher.fused),
        (student.head.classification, teacher.head.classification),
        (student.head.regression, teacher.head.regression),
    )
    return torch.stack([_divergence(*pair) for pair in pairs]).sum()


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean divergence of maps (B, C, ny, nx), in float32 whatever the precision of the networks."""
    ours, theirs = (_with_rest(maps.float()) for maps in (student, teacher))
    return F.kl_div(ours.log_softmax(dim=1), theirs.softmax(dim=1), reduction="none").mean()


def _with_rest(maps: Tensor) -> Tensor:
    """Return maps (B, C, ny, nx); with a second channel of zeros if they have one, whose sigmoid is the first share then."""
    return maps if maps.shape[1] > 1 else F.pad(maps, (0, 0, 0, 0, 0, 1))
