"""Example inputs for exported graphs, random but reproducible, with the outputs of the original networks to compare with."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from heal.agent_model import AgentModel
from heal.base_model import BaseModel
from heal.encoders.coverage import fit_to_grid
from heal.encoders.images import CameraBatch
from heal.encoders.lift_splat import LiftSplat
from heal.encoders.point_pillars import PointPillars
from heal.encoders.voxelize import Voxels, voxelize
from heal.se3 import pose_to_SE3

Tensors = tuple[Tensor, ...]


def pillars_example(agent: AgentModel, count: int) -> tuple[Voxels, Tensor]:
    """Return the pillars of one random cloud of `count` points, dense around the sensor, and the agent's feature map."""
    assert isinstance(agent.encoder, PointPillars)
    rng, high = np.random.default_rng(count), np.array(agent.grid.range_m[3:])
    xyz = np.clip(rng.normal(0, high / 4, (count, 3)), -0.9 * high, 0.9 * high)
    cloud = np.concatenate([xyz, rng.random((count, 1))], axis=1).astype(np.float32)
    voxels = voxelize([cloud], agent.encoder.voxel_grid)
    return voxels, agent(voxels)


def images_example(agent: AgentModel, count: int) -> tuple[CameraBatch, Tensor]:
    """Return random images of one agent with `count` cameras that look in all directions, and the agent's feature map."""
    assert isinstance(agent.encoder, LiftSplat)
    height, width = agent.encoder.settings.image.size
    generator = torch.Generator().manual_seed(count)
    poses = torch.eye(4).repeat(count, 1, 1)
    for i in range(count):
        # The camera's axes are x right, y down, z forward.
        forward_first = torch.tensor([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
        turn = torch.from_numpy(pose_to_SE3([0, 0, 0, 0, 360 * i / count, 0])[:3, :3]).float()
        poses[i, :3, :3], poses[i, 2, 3] = turn @ forward_first, 1.5
    intrinsic = torch.tensor([[width / 2, 0, width / 2], [0, width / 2, height / 2], [0, 0, 1]]).repeat(count, 1, 1)
    cameras = CameraBatch(
        images=torch.randn(count, 3, height, width, generator=generator),
        agent=torch.zeros(count, dtype=torch.int64),
        agents=1,
        intrinsic=intrinsic,
        agent_SE3_camera=poses,
        shown_from_image=torch.eye(2, 3).repeat(count, 1, 1),
    )
    return cameras, agent(cameras)


def maps_example(agent: AgentModel, count: int) -> tuple[Tensor, Tensor]:
    """Return random maps in the shape of the encoder's, (count, C, any, any), and the feature maps of backbone and aligner."""
    reduction, grid = agent.config.backbone.reduction, agent.grid
    shape = (count, agent.config.encoder.out_channels, round(grid.ny * reduction), round(grid.nx * reduction))
    maps = torch.rand(shape, generator=torch.Generator().manual_seed(count))
    aligned: Tensor = agent.aligner(agent.backbone(maps))
    return maps, aligned if agent.coverage is None else fit_to_grid(aligned, grid)


def features_example(base: BaseModel, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the inputs of the base for `count` agents, every second one of them with cameras.

    Returns:
        features: (count, C, ny, nx) random feature maps.
        agent_SE3_ego: (count, 4, 4) float64 poses; the first agent is the ego.
        coverage: (count, 2) float64, as `TrunkGraph` takes it.
    """
    generator, grid = torch.Generator().manual_seed(count), base.config.grid
    features = torch.randn(count, base.config.in_channels, grid.ny, grid.nx, generator=generator)
    poses = np.stack([pose_to_SE3([0.3 * i * grid.range_m[4], -2.0 * i, 0, 0, 25.0 * i, 0]) for i in range(count)])
    coverage = torch.tensor([(0.0, 0.0), (2.0, 1.25)], dtype=torch.float64).repeat(math.ceil(count / 2), 1)[:count]
    return features, torch.from_numpy(poses), coverage


def levels_example(base: BaseModel, count: int) -> tuple[Tensors, Tensors]:
    """Return the maps and the scores of every scale that the base's trunk computes from `features_example`."""
    features, _, coverage = features_example(base, count)
    levels = base.trunk(features)
    return levels.maps, base.fusion.scores(levels.occupancy, coverage_ratios(coverage))


def heads_example(base: BaseModel, count: int) -> Tensors:
    """Return the output of the heads (classification, regression, direction) for `features_example` as one scene."""
    features, poses, coverage = features_example(base, count)
    head = base(features, poses, (count,), coverage_ratios(coverage)).head
    return head.classification, head.regression, head.direction


def coverage_ratios(coverage: Tensor) -> list[tuple[float, float] | None]:
    """Convert coverage (N, 2) to the networks' form: None for an agent whose sensors cover the whole grid."""
    return [(x, y) if x else None for x, y in coverage.tolist()]
