"""The settings of a run's door: where it listens, and how much it takes from strangers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from heal.agents.door.topics import is_name
from heal.errors import UserError

ENDPOINT_FORM = "PROTOCOL/HOST:PORT such as tcp/127.0.0.1:7447"


@dataclass(frozen=True)
class DoorOptions:
    """The door of a run, through which agents of other processes, machines and languages send messages.

    Attributes:
        listen: endpoint on which the door listens, in Zenoh's notation. The default can be reached from this machine alone.
        zenoh_config: file with Zenoh's own configuration (JSON5), for TLS and everything else; it replaces `listen` and the rules
            of access that the door sets otherwise.
        run: name of the run in the topics.
        most_agents: number of senders at one time; messages of further ones are turned away.
        most_message_bytes: length of the longest message.
        messages_per_s: messages that a sender may send in a second on average.
        bytes_per_s: bytes that a sender may send in a second on average.
        forgeries_per_s: in a run with keys, bad signatures that are checked in a second, on all topics together.
        agents: number of outside agents that the first tick waits for, for at most `first_wait_s`; 0 begins at once.
        first_wait_s: by the wall clock, in seconds.
        wait_ms: in simulated time, how long each tick waits by the wall clock for the outside agents that take part.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    listen: str = "tcp/127.0.0.1:7447"
    zenoh_config: str | None = None
    run: str = "run"
    most_agents: int = 16
    most_message_bytes: int = 16 << 20
    messages_per_s: float = 30.0
    bytes_per_s: float = 100e6
    forgeries_per_s: float = 1000.0
    agents: int = 0
    first_wait_s: float = 120.0
    wait_ms: float = 1000.0

    def __post_init__(self) -> None:
        """Check the endpoint, the name and the ranges of all numbers."""
        require_endpoint("door.listen", self.listen)
        require_name("door.run", self.run)
        rates = self.messages_per_s, self.bytes_per_s, self.forgeries_per_s
        if min(self.most_agents, self.most_message_bytes) < 1 or not min(rates) > 0:
            raise UserError(f"door: expected limits of more than 0, got {self}")
        if not 0 <= self.agents <= self.most_agents or min(self.wait_ms, self.first_wait_s) < 0:
            raise UserError(f"door: expected 0 to most_agents agents and times that are not negative, got {self}")


def require_endpoint(option: str, endpoint: str) -> None:
    """Raise UserError for a text that is no endpoint in Zenoh's notation."""
    if re.fullmatch(r"[a-z]+/\S+:\d+(\?\S*)?", endpoint) is None:
        raise UserError(f"{option}: expected {ENDPOINT_FORM}, got {endpoint!r}")


def require_name(option: str, name: str) -> None:
    """Raise UserError for a name that cannot be one part of a topic."""
    if not is_name(name):
        raise UserError(f"{option}: expected letters, digits, and the signs - _ . alone, got {name!r}")
