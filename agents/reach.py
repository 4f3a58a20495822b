"""The agents in communication range of the ego: by the poses that agents measure, before any of them has sent a message."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache

from heal.agent_types import in_range
from heal.types import Float64, SceneSource, SensorChoice

POSE_ALONE = SensorChoice(lidar=False)


def measured_pose(source: SceneSource, tick: int, agent_id: str) -> Float64 | None:
    """Return the pose (4, 4) that an agent measures in a tick, as the source has it; None if it cannot be read."""
    with suppress(Exception):  # what cannot be read is a fault of the agent when its step or its labels are read
        return source.agent_frame(tick, agent_id, POSE_ALONE).world_SE3_agent_measured
    return None


def reach_of(source: SceneSource, tick: int, ego_id: str, comm_range_m: float) -> Callable[[str], bool]:
    """Return the function that tells whether an agent is in range of the ego in a tick; each pose is read when it is asked for.

    An agent whose pose cannot be read counts as in range, so that its failure is noted.
    """
    pose_of = lru_cache(maxsize=None)(lambda agent_id: measured_pose(source, tick, agent_id))

    def is_reached(agent_id: str) -> bool:
        ego, agent = pose_of(ego_id), pose_of(agent_id)
        return ego is None or agent is None or in_range(ego, agent, comm_range_m)

    return is_reached
