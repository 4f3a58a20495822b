"""The door of a run on Ray: an actor that listens, so that no flood of messages takes the driver's time."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from time import monotonic
from typing import Any

import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from heal.agents.door.clock import RunFacts
from heal.agents.door.gateway import Gateway
from heal.agents.door.intake import Awaited, Taken
from heal.agents.door.options import DoorOptions
from heal.agents.on_ray.cluster import ACTOR_CPUS, DIED_ERRORS
from heal.errors import UserError
from heal.identity.allow_list import AllowedSenders

_log = logging.getLogger(__name__)
# How long the gateway may take to answer, beyond the time for which it is to wait: so long a tick is held up by one that hangs.
_ANSWER_S = 5.0


class DoorActor:
    """An actor that hosts the gateway. Messages go from here to the fusion nodes, not through the driver."""

    def __init__(self, options: DoorOptions, facts: RunFacts, allowed: AllowedSenders | None) -> None:
        """Open the gateway; `ready` raises the error if that fails, because Ray would not tell it."""
        self._error: UserError | None = None
        try:
            self._gateway = Gateway(options, facts, allowed)
        except UserError as error:
            self._error = error

    def ready(self) -> None:
        """Answer once the gateway listens."""
        if self._error is not None:
            raise self._error

    def announce(self, tick: int, timestamp_ns: int, reserved: Iterable[str]) -> None:
        """Announce a tick, see `Door`."""
        self._gateway.announce(tick, timestamp_ns, reserved)

    def wait(self, awaited: Awaited) -> None:
        """Wait for agents, see `Door`."""
        self._gateway.wait(awaited)

    def take(self, awaited: Awaited) -> Taken[Any]:
        """Return what has come, see `Door`; the payloads are references to arrays, which Ray hands on without a copy."""
        taken = self._gateway.take(awaited)
        carried = (message.carried_as(ray.put(np.frombuffer(message.payload, np.uint8))) for message in taken.messages)
        return Taken(tuple(carried), dict(taken.turned_away))

    def close(self) -> None:
        """Close the gateway."""
        self._gateway.close()


class RayDoor:
    """A door in an actor on the driver's machine, whose clock the arrivals are measured by.

    If the actor dies, Ray starts it again: what has come and was not taken yet is lost, and agents connect again by themselves.

    Attributes:
        options: the settings of the door.
    """

    def __init__(self, options: DoorOptions, facts: RunFacts, allowed: AllowedSenders | None = None) -> None:
        """Start the actor, and wait until it listens; arguments as for `Gateway`.

        Raises:
            UserError: as `Gateway`.
        """
        self.options = options
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        remote = ray.remote(num_cpus=ACTOR_CPUS, max_restarts=-1, scheduling_strategy=here)(DoorActor)
        self._actor = remote.remote(options, facts, allowed)
        try:
            ray.get(self._actor.ready.remote())
        except UserError as error:
            ray.kill(self._actor)
            raise UserError(str(getattr(error, "cause", error))) from error

    def announce(self, tick: int, timestamp_ns: int, reserved: Iterable[str]) -> None:
        """Publish the tick that runs now, without waiting for it."""
        self._actor.announce.remote(tick, timestamp_ns, tuple(reserved))

    def wait(self, awaited: Awaited) -> None:
        """Wait until everything that is awaited has come, or until its time is up."""
        self._answer(self._actor.wait.remote(awaited), awaited)

    def take(self, awaited: Awaited) -> Taken[Any]:
        """Wait in the same way, and return what has come since the last call; nothing while the actor is being restarted."""
        return self._answer(self._actor.take.remote(awaited), awaited) or Taken()

    def close(self) -> None:
        """Tell the agents that the run is over, and end the actor."""
        self._answer(self._actor.close.remote(), Awaited(monotonic()))
        ray.kill(self._actor)

    def _answer(self, call: Any, awaited: Awaited) -> Any:
        """Return the answer of the actor; None if it has died or does not answer."""
        try:
            return ray.get(call, timeout=max(0.0, awaited.until_s - monotonic()) + _ANSWER_S)
        except (*DIED_ERRORS, ray.exceptions.GetTimeoutError) as error:
            _log.warning("the gateway does not answer (%s); this tick goes on without messages from outside", type(error).__name__)
            return None
