"""Agents that send the boxes that they find alone (late fusion), or the points of their LiDAR (early fusion)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from heal.agents.content.content import Content, Sensed
from heal.agents.interfaces import AllianceLike
from heal.agents.options import RunOptions
from heal.base_model import BaseModel
from heal.detection.head import HeadOutput
from heal.encoders.joint_cloud import points_to_share
from heal.errors import UserError
from heal.fusion.interface import Coverage
from heal.grid import BevGrid
from heal.message.codec import Codec
from heal.message.items import LARGEST_M, SCORE, numbers_of_box
from heal.types import SensorChoice


class BoxMaker:
    """The boxes that the agent finds alone, duplicates included: duplicates are suppressed once, among the boxes of all agents."""

    encodes = True

    def __init__(self, base: BaseModel, agent_type: str) -> None:
        """Detect with a base and the maps of an agent type."""
        self._base, self._agent_type = base, agent_type

    def content(self, sensed: Sensed, codec: Codec) -> Content:
        """Return the boxes of the least score that the codec asks for, the best first, as many as enter the suppression."""
        config = self._base.config.decode
        boxes, scores, classes = self._base.detection.candidates(self._head(sensed))
        numbers = numbers_of_box(self._base.detection.classes)
        items = torch.cat([boxes, scores[:, None], classes[:, None].to(scores)], dim=1)[:, :numbers]
        items = items[(items.abs() <= LARGEST_M).all(dim=1) & (scores >= codec.min_score)]
        best = items[:, SCORE].argsort(descending=True, stable=True)[: config.max_candidates]
        return Content((items[best].T[None, :, None],), (), replace(codec, min_score=0.0))

    def heat(self, sensed: Sensed, content: Content | None) -> Tensor:
        """Return the best score of each cell."""
        return self._head(sensed).classification.float().sigmoid().amax(dim=1, keepdim=True)

    def _head(self, sensed: Sensed) -> HeadOutput:
        return detect_alone(self._base, sensed.features, sensed.coverage, self._agent_type)


class PointMaker:
    """The points of the agent's LiDAR without those on its own vehicle; an agent without a LiDAR sends nothing."""

    encodes = False

    def __init__(self, grid: BevGrid) -> None:
        """Show pictures on a grid."""
        self._grid = grid

    def content(self, sensed: Sensed, codec: Codec) -> Content | None:
        """Return the points; receivers refuse messages with a point farther away than `LARGEST_M`."""
        points = points_to_share(sensed.frame)
        if points is None:
            return None
        near = (np.abs(points[:, :3]) <= LARGEST_M).all(axis=1)
        points = points if near.all() else points[near]
        return Content((torch.from_numpy(points.T)[None, :, None],), (), codec)

    def heat(self, sensed: Sensed, content: Content | None) -> Tensor:
        """Return no foreground: no network has run."""
        return torch.zeros(1, 1, self._grid.ny, self._grid.nx)


def detect_alone(base: BaseModel, features: Tensor, coverage: Coverage, agent_type: str) -> HeadOutput:
    """Return the output of a base's heads for the features (1, C, ny, nx) of one agent alone, in the agent's own frame."""
    own = torch.eye(4, dtype=torch.float64)[None]
    return base.heads(base.fuse(base.trunk(features), own, [1], [coverage], [agent_type]))


def reads_points_alone(sensor: SensorChoice) -> bool:
    """Return whether a type's network can read the joint cloud of early fusion."""
    return sensor.lidar and not sensor.cameras


def cloud_reader(encoders: Iterable[str], ego_type: str) -> str:
    """Return the agent type whose network reads a joint cloud: the ego's, or the first of those that can if the ego's cannot."""
    names = list(encoders)
    return ego_type if ego_type in names else names[0]


def require_cloud_reader(options: RunOptions, alliance: AllianceLike) -> None:
    """Raise UserError if a run joins points, and no type of the alliance has a network for them."""
    if options.split == "points" and not any(reads_points_alone(alliance.agent(name).sensor) for name in alliance.agent_names):
        raise UserError(
            "split=points: expected an agent type that reads LiDAR alone, whose network detects in the joint cloud; the alliance "
            f"has {', '.join(alliance.agent_names)}; send something else"
        )
