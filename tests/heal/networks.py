"""Small networks and scenes for tests."""

import numpy as np
import torch
from torch import nn

from heal.agent_model import AgentConfig, AgentModel
from heal.base_model import BaseConfig, BaseModel
from heal.collab_model import CollabModel
from heal.encoders.images import ImageConfig
from heal.encoders.lift_splat import LiftSplatConfig
from heal.encoders.lift_splat_depth import DepthBinsConfig
from heal.encoders.point_pillars import PointPillarsConfig
from heal.encoders.second import SecondConfig
from heal.fusion.pyramid import PyramidConfig
from heal.grid import BevGrid
from heal.layers.backbone import BackboneConfig
from heal.se3 import inverse_SE3, pose_to_SE3, transform_points
from heal.types import AgentFrame, LidarScan, ObjectLabels, Scene

GRID = BevGrid((-12.8, -6.4, -3.0, 12.8, 6.4, 1.0), 0.8)
BASE = BaseConfig(
    grid=GRID,
    in_channels=8,
    pyramid=PyramidConfig(
        blocks=(1, 1), strides=(1, 2), channels=(8, 16), groups=0, upsample_strides=(1, 2), upsample_channels=(8, 8)
    ),
    shrink_channels=(16,),
)
AGENT = AgentConfig(encoder=PointPillarsConfig(channels=(8,), max_points=8), backbone=BackboneConfig(blocks=(1,), channels=(8,)))
SECOND = AgentConfig(
    encoder=SecondConfig(voxel_m=(0.2, 0.2, 0.2), channels=(4, 4, 6, 8), map_channels=8),
    backbone=BackboneConfig(blocks=(1,), strides=(1,), channels=(8,)),
)
LIFT_SPLAT = LiftSplatConfig(
    image=ImageConfig(size=(32, 48)),
    trunk="test_efficientnet",
    trunk_stride=16,
    drop_path=0.0,
    neck_channels=8,
    channels=6,
    depth=DepthBinsConfig(start_m=1.0, end_m=9.0, count=8, spacing="uniform"),
    range_m=(-8.0, -4.0, -10.0, 8.0, 4.0, 10.0),
    cell_m=1.0,
)
# The corners of a box, as factors on half its edges.
CORNER_SIGNS = np.array([(1, -1, -1), (1, 1, -1), (-1, 1, -1), (-1, -1, -1), (1, -1, 1), (1, 1, 1), (-1, 1, 1), (-1, -1, 1)])


def small_model() -> CollabModel:
    """Return a base with one agent type; the weights follow from torch's seed."""
    return CollabModel(BaseModel(BASE), {"m1": AgentModel(AGENT, GRID)})


def with_random_norms(model: nn.Module) -> nn.Module:
    """Give a model's batch norms random weights and statistics, as after a training, and return the model."""
    generator = torch.Generator().manual_seed(0)
    for part in model.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            part.weight.data = torch.rand(part.weight.shape, generator=generator) + 0.5
            part.bias.data = torch.randn(part.bias.shape, generator=generator) * 0.3
            part.running_mean = torch.randn(part.bias.shape, generator=generator) * 0.3
            part.running_var = torch.rand(part.bias.shape, generator=generator) + 0.5
    return model


def small_scene(seed: int, agents: int = 2, cars: int = 3) -> Scene:
    """Return a scene of cars, each a cloud of points, seen by agents a few metres apart; every agent labels all cars."""
    rng = np.random.default_rng(seed)
    corners, points = [], []
    for _ in range(cars):
        world_SE3_car = pose_to_SE3([rng.uniform(-9, 9), rng.uniform(-4, 4), -1.0, 0, rng.uniform(-180, 180), 0])
        half = np.array([1.95, 0.8, 0.78])
        corners.append(transform_points(world_SE3_car, CORNER_SIGNS * half))
        points.append(transform_points(world_SE3_car, rng.uniform(-1, 1, (60, 3)) * half))
    objects = ObjectLabels(np.arange(cars), np.stack(corners) if cars else np.zeros((0, 8, 3)))
    world = np.concatenate([*points, rng.uniform((-12, -6, -1.8), (12, 6, -1.7), (200, 3))])
    return Scene.of([_frame(str(i), world, objects, rng) for i in range(agents)], f"scene-{seed}")


def _frame(agent_id: str, world_points: np.ndarray, objects: ObjectLabels, rng: np.random.Generator) -> AgentFrame:
    world_SE3_agent = pose_to_SE3([rng.uniform(-3, 3), rng.uniform(-2, 2), 0, 0, rng.uniform(-180, 180), 0])
    xyz = transform_points(inverse_SE3(world_SE3_agent), world_points)
    points = np.concatenate([xyz, np.full((len(xyz), 1), 0.3)], axis=1).astype(np.float32)
    return AgentFrame(agent_id, "vehicle", 0, world_SE3_agent, world_SE3_agent, LidarScan(points), (), objects)
