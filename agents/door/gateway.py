"""The gateway of a run: listens over Zenoh, hands what comes to the intake, and publishes the clock of the ticks."""

from __future__ import annotations

import os
from collections.abc import Iterable
from time import monotonic
from typing import Any, Protocol, TypeVar

from heal.agents.door.clock import RUN_ID_BYTES, Clock, RunFacts
from heal.agents.door.intake import Awaited, Intake, Taken
from heal.agents.door.options import DoorOptions
from heal.agents.door.session import open_door
from heal.agents.door.topics import agent_topics, clock_topic

Payload = TypeVar("Payload")
# While a tick waits, the clock is published again and again, for agents that have only now come.
_AGAIN_S = 0.2


class Door(Protocol[Payload]):
    """The door of a run, in this process or in another one."""

    @property
    def options(self) -> DoorOptions:
        """The settings of the door."""
        ...

    def announce(self, tick: int, timestamp_ns: int, reserved: Iterable[str]) -> None:
        """Publish the tick that runs now; messages under the reserved ids are turned away from now on."""
        ...

    def wait(self, awaited: Awaited) -> None:
        """Wait until everything that is awaited has come, or until its time is up."""
        ...

    def take(self, awaited: Awaited) -> Taken[Payload]:
        """Wait in the same way, and return what has come since the last call."""
        ...

    def close(self) -> None:
        """Tell the agents that the run is over, and stop listening."""
        ...


class ClosedDoor:
    """The door of a run without outside agents: nothing comes through it, and nothing waits for it."""

    options = DoorOptions()

    def announce(self, tick: int, timestamp_ns: int, reserved: Iterable[str]) -> None:
        """Tell nobody."""

    def wait(self, awaited: Awaited) -> None:
        """Return at once."""

    def take(self, awaited: Awaited) -> Taken[Any]:
        """Return nothing."""
        return Taken()

    def close(self) -> None:
        """Stay closed."""


class Gateway:
    """A door in this process; its payloads are bytes.

    Whoever opens one has to close it: Zenoh's threads keep a process alive.

    Attributes:
        options: the settings of the door.
    """

    def __init__(self, options: DoorOptions, facts: RunFacts) -> None:
        """Start to listen.

        Args:
            options: of the door.
            facts: of the run, which the clock tells.

        Raises:
            UserError: as `open_door`.
        """
        self.options, self._intake = options, Intake(options)
        self._clock = Clock(os.urandom(RUN_ID_BYTES), facts, 0, 0)
        self._session = open_door(options)
        self._clocks = self._session.declare_publisher(clock_topic(options.run))
        self._session.declare_subscriber(agent_topics(options.run), self._receive)

    def announce(self, tick: int, timestamp_ns: int, reserved: Iterable[str]) -> None:
        """Publish the tick that runs now; messages under the reserved ids are turned away from now on."""
        self._intake.reserve(reserved)
        self._clock = Clock(self._clock.run_id, self._clock.facts, tick, timestamp_ns)
        self._publish()

    def wait(self, awaited: Awaited) -> None:
        """Wait until everything that is awaited has come, or until its time is up."""
        while not self._intake.wait(awaited, min(_AGAIN_S, awaited.until_s - monotonic())):
            if monotonic() >= awaited.until_s:
                return
            self._publish()

    def take(self, awaited: Awaited) -> Taken[bytes]:
        """Wait in the same way, and return what has come since the last call."""
        self.wait(awaited)
        return self._intake.take()

    def close(self) -> None:
        """Tell the agents that the run is over, and stop listening."""
        if not self._session.is_closed():
            last = self._clock
            self._clock = Clock(last.run_id, last.facts, last.tick, last.timestamp_ns, over=True)
            self._publish()
            self._session.close()

    def _publish(self) -> None:
        self._clocks.put(self._clock.to_bytes())

    def _receive(self, sample: Any) -> None:
        """Take in what Zenoh has received, in one of its threads."""
        payload = sample.payload
        self._intake.receive(str(sample.key_expr), len(payload), payload.to_bytes)
