"""Messages for tests of the door, without networks."""

from __future__ import annotations

import numpy as np

from heal.agents.door.intake import Intake
from heal.agents.door.topics import message_topic
from heal.grid import BevGrid
from heal.message.message import Message

GRID = BevGrid((-12.8, -12.8, -3.0, 12.8, 12.8, 1.0), 0.8)


def message(agent_id: str = "a", timestamp_ns: int = 5, agent_type: str = "m1", channels: int = 2) -> bytes:
    maps = (np.zeros((channels, GRID.ny, GRID.nx), np.float32),)
    return Message(agent_id, agent_type, "f00d", timestamp_ns, np.eye(4), GRID, maps, ()).to_bytes()


def send(door: Intake, content: bytes, agent_id: str = "a", topic: str | None = None) -> None:
    door.receive(topic or message_topic("run", agent_id), len(content), lambda: content)
