"""An agent's connection to the door of a run: hears the clock, sends messages."""

from __future__ import annotations

import threading
from time import monotonic
from types import TracebackType
from typing import Any

from heal.agents.door.clock import Clock, ClockError
from heal.agents.door.session import connect
from heal.agents.door.topics import clock_topic, message_topic


class DoorConnection:
    """The connection of one agent; a context manager."""

    def __init__(self, endpoint: str, run: str, agent_id: str, zenoh_config: str | None = None) -> None:
        """Connect to a door, which may open later.

        Args:
            endpoint: of the door, in Zenoh's notation.
            run: name of the run in the topics.
            agent_id: the agent that sends.
            zenoh_config: file with Zenoh's own configuration, which then names the endpoint.

        Raises:
            UserError: as `connect`.
        """
        self._changed = threading.Condition()
        self._newest: Clock | None = None
        self._heard_s = monotonic()
        self._session = connect(endpoint, zenoh_config)
        self._session.declare_subscriber(clock_topic(run), self._hear)
        import zenoh

        # A message that cannot be sent at once is waited for, not dropped: the agent goes at the pace of its connection.
        control = zenoh.CongestionControl.BLOCK
        self._messages = self._session.declare_publisher(message_topic(run, agent_id), congestion_control=control)

    def hears(self, timeout_s: float) -> bool:
        """Wait until the door has told the time, and return whether it has within a time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._newest is not None, timeout_s)

    def next_clock(self, after: Clock | None, silence_s: float) -> Clock | None:
        """Return the newest clock of a tick, or of the end, once it differs from `after`.

        Returns:
            None if no clock at all has been heard for as long as `silence_s`: the door tells the time again and again.
        """
        with self._changed:
            while self._newest is None or self._newest.state == "waits" or self._newest == after:
                left_s = self._heard_s + silence_s - monotonic()
                if left_s <= 0:
                    return None
                self._changed.wait(left_s)
            return self._newest

    def send(self, message: bytes) -> None:
        """Send a message."""
        self._messages.put(message)

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def __enter__(self) -> DoorConnection:
        """Return the connection."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the connection."""
        self.close()

    def _hear(self, sample: Any) -> None:
        """Take the clock that Zenoh has received, in one of its threads; what is no clock is ignored."""
        try:
            clock = Clock.of(sample.payload.to_bytes())
        except ClockError:
            return
        with self._changed:
            self._newest, self._heard_s = clock, monotonic()
            self._changed.notify_all()
