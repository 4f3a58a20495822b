"""A source with known numbers of points on a car, in a module that processes of Ray can import."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from heal.se3 import inverse_SE3, transform_points
from heal.types import AgentFrame, LidarScan, SensorChoice
from tests.agents.tiny_run import TinySource

# Points on car 1, which all agents label.
POINTS = {"ego": 3, "b": 25, "c": 40}


@dataclass(frozen=True)
class SourceOfPoints(TinySource):
    """The tiny world with a known number of points on car 1, and no other point near it.

    Attributes:
        unreadable: an agent without a sweep.
    """

    unreadable: str = ""

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        frame = super().agent_frame(index, agent_id, choice)
        if agent_id == self.unreadable:
            return replace(frame, lidar=None) if choice is None else frame
        car = np.tile([104.0, 52.0, 1.0], (POINTS[agent_id], 1)) + np.linspace(-0.5, 0.5, POINTS[agent_id])[:, None]
        far = np.tile([105.0, 60.0, 1.0], (50, 1))
        own = transform_points(inverse_SE3(frame.world_SE3_agent), np.concatenate([car, far]))
        return replace(frame, lidar=LidarScan(np.pad(own, ((0, 0), (0, 1))).astype(np.float32)))
