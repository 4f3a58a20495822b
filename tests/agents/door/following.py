"""An outside agent in a thread of this process, which follows the clock of a run and sends what it is told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from heal.agents.agent import AgentHost, AgentRequest, AgentSetup
from heal.agents.door.clock import Clock
from heal.agents.door.connection import DoorConnection
from heal.agents.interfaces import AllianceLike
from heal.agents.options import RunOptions
from heal.types import SceneSource

# Makes the byte strings to send at a clock.
Sends = Callable[[Clock], Sequence[bytes]]


def messages_of(alliance: AllianceLike, source: SceneSource, agent_type: str, agent_id: str, options: RunOptions) -> Sends:
    """Return the messages that an agent of the scenes sends."""
    host = AgentHost(AgentSetup.of(alliance, agent_type, source, options))
    return lambda clock: [host.step([AgentRequest(clock.tick, agent_id, options.codec)])[0][0]]


@contextmanager
def outside_agent(endpoint: str, agent_id: str, sends: Sends) -> Iterator[list[Clock]]:
    """Let an agent follow the clock beside the block; yields the clocks that it has followed."""
    clocks: list[Clock] = []
    ended = threading.Event()

    def follow() -> None:
        with DoorConnection(endpoint, "run", agent_id) as connection:
            clock: Clock | None = None
            while not ended.is_set():
                newer = connection.next_clock(clock, 0.1)
                if newer is None:
                    time.sleep(0.01)
                    continue
                clock = newer
                clocks.append(clock)
                if clock.state == "over":
                    break
                for message in sends(clock):
                    connection.send(message)

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield clocks
    finally:
        thread.join(timeout=10)  # it ends by itself when it hears that the run is over, which takes a while on a busy machine
        ended.set()
        thread.join(timeout=30)
        assert not thread.is_alive()
