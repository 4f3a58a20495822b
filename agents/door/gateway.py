"""The gateway of a run: listens over Zenoh, hands what comes to the intake, and publishes the clock of the ticks."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from heal.agents.door.clock import RUN_ID_BYTES, Clock, RunFacts
from heal.agents.door.intake import Awaited, Intake, Taken
from heal.agents.door.options import DoorOptions
from heal.agents.door.session import open_door
from heal.agents.door.topics import agent_topics, clock_topic
from heal.identity.allow_list import AllowedSenders

Payload = TypeVar("Payload")
# The clock is published again and again, for agents that have only now come, and as a sign that the run is alive.
_AGAIN_S = 0.5


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

    def __init__(self, options: DoorOptions, facts: RunFacts, allowed: AllowedSenders | None = None) -> None:
        """Start to listen.

        Args:
            options: of the door.
            facts: of the run, which the clock tells.
            allowed: the agents whose signed messages are let in; None if nothing is signed in the run.

        Raises:
            UserError: as `open_door`.
        """
        # A door that is opened again in the middle of a run has forgotten which messages have come before.
        self._allowed = None if allowed is None else allowed.from_now()
        self.options, self._intake = options, Intake(options, self._allowed)
        self._clock = Clock(os.urandom(RUN_ID_BYTES), facts)
        self._session = open_door(options)
        self._clocks = self._session.declare_publisher(clock_topic(options.run))
        self._session.declare_subscriber(agent_topics(options.run), self._receive)
        self._publishing, self._closed = threading.Lock(), threading.Event()
        self._again = threading.Thread(target=self._publish_again, name="clock of the door", daemon=True)
        self._again.start()

    def announce(self, tick: int, timestamp_ns: int, reserved: Iterable[str]) -> None:
        """Publish the tick that runs now; messages under the reserved ids are turned away from now on.

        The allow list is read again before, if its file has changed.
        """
        if self._allowed is not None:
            self._allowed.refresh()
        self._intake.reserve(reserved)
        self._publish(replace(self._clock, tick=tick, timestamp_ns=timestamp_ns, state="runs"))

    def wait(self, awaited: Awaited) -> None:
        """Wait until everything that is awaited has come, or until its time is up."""
        self._intake.wait(awaited)

    def take(self, awaited: Awaited) -> Taken[bytes]:
        """Wait in the same way, and return what has come since the last call."""
        self.wait(awaited)
        return self._intake.take()

    def close(self) -> None:
        """Tell the agents that the run is over, and stop listening."""
        if not self._closed.is_set():
            self._closed.set()
            self._again.join()
            self._publish(replace(self._clock, state="over"))
            self._session.close()

    def _publish(self, clock: Clock | None = None) -> None:
        """Publish a new clock, or the last one again; one after the other, so that no agent hears an older one last."""
        with self._publishing:
            self._clock = clock or self._clock
            self._clocks.put(self._clock.to_bytes())

    def _publish_again(self) -> None:
        while not self._closed.wait(_AGAIN_S):
            self._publish()

    def _receive(self, sample: Any) -> None:
        """Take in what Zenoh has received, in one of its threads."""
        payload = sample.payload
        self._intake.receive(str(sample.key_expr), len(payload), payload.to_bytes)
