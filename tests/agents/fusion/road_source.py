"""Agents of the tiny world on an open road, each with a car beside it; Ray's workers import it by name."""

from __future__ import annotations

from dataclasses import dataclass, replace

from heal.types import AgentFrame, LidarScan, SensorChoice
from tests.agents.tiny_run import TinySource
from tests.heal.defence.rays import cloud

ROAD = cloud((6.0, 3.0))


@dataclass(frozen=True)
class RoadSource(TinySource):
    """Scenes in which every agent has the same cloud, that of an open road with a car."""

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        return replace(super().agent_frame(index, agent_id, choice), lidar=LidarScan(ROAD))
