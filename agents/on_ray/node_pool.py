"""The actors of fusion nodes, made anew when they break: nothing is lost but the ticks they were away, and what they held."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from heal.agents.deployment import Deployment
from heal.agents.fusion.division import FusionTask, node_of
from heal.agents.interfaces import AllianceLike
from heal.agents.on_ray.actors import NodeActor
from heal.agents.on_ray.cluster import DIED_ERRORS, Placer
from heal.agents.options import RunOptions
from heal.agents.records import Fault, FusionOutcome


@dataclass(frozen=True)
class Asked:
    """Tasks that an actor is at; `life` counts the seat's actors from 0, `reference` is None if it was away."""

    life: int
    reference: Any


@dataclass(frozen=True)
class AskedAll:
    """A tick's tasks: for every seat that has any their places among them, and what it was asked."""

    count: int
    by_seat: tuple[tuple[NodeSeat, tuple[int, ...], Asked], ...]


class NodeSeats:
    """The seats of a run, with the regions dealt out among them. One is beside the driver, several are placed as agents are."""

    def __init__(self, alliance: AllianceLike, options: RunOptions, deployment: Deployment) -> None:
        """Make the first actors; without regions there is work for one only."""
        count = 1 if options.region_m is None else deployment.fusion_nodes
        base, placer = ray.put(alliance.base), Placer(deployment)

        def place() -> dict[str, Any]:
            if count == 1:
                return placer.for_node()
            return {**placer.for_agents(), "num_gpus": deployment.gpus_per_node}

        self._seats = [NodeSeat(base, alliance.base_hash, options, deployment, place) for _ in range(count)]

    def __getitem__(self, number: int) -> NodeSeat:
        """One of them; without regions it is always the same."""
        return self._seats[number % len(self._seats)]

    def wait_until_ready(self) -> None:
        """Return once all answer."""
        for seat in self._seats:
            seat.wait_until_ready()

    def ask(self, tasks: Sequence[FusionTask[Any]]) -> AskedAll:
        """Hand out a tick."""
        places: list[list[int]] = [[] for _ in self._seats]
        for place, task in enumerate(tasks):
            places[node_of(task.request.region, len(self._seats))].append(place)
        shares = [(seat, tuple(own)) for seat, own in zip(self._seats, places, strict=True) if own]
        return AskedAll(len(tasks), tuple((seat, own, seat.ask([tasks[place] for place in own])) for seat, own in shares))

    def answers(self, asked: AskedAll) -> list[FusionOutcome | None]:
        """What has been found, task by task; None where an actor broke meanwhile."""
        outcomes: list[FusionOutcome | None] = [None] * asked.count
        for seat, places, share in asked.by_seat:
            for place, outcome in zip(places, seat.answer(share) or (), strict=False):
                outcomes[place] = outcome
        return outcomes

    def take_faults(self) -> list[Fault]:
        """What has broken or come back since it was last asked."""
        return [fault for seat in self._seats for fault in seat.take_faults()]

    def close(self) -> None:
        """End all actors."""
        for seat in self._seats:
            seat.close()


class NodeSeat:
    """Asks an actor with fusion nodes, whichever of its lives it is in."""

    def __init__(
        self, base: Any, base_hash: str, options: RunOptions, deployment: Deployment, place: Callable[[], dict[str, Any]]
    ) -> None:
        """Make the first actor.

        Args:
            base: a reference to the network.
            base_hash: its content hash.
            options: of the run.
            deployment: of the run.
            place: gives Ray's options of the next actor.
        """
        self._base, self._base_hash = base, base_hash
        self._options, self._deployment, self._place = options, deployment, place
        self.actor = self._create()
        self._ready = self.actor.ready.remote()
        self._life, self._away = 0, False
        self._faults: list[Fault] = []

    def wait_until_ready(self) -> None:
        """Return once it answers."""
        ray.get(self._ready)

    def ask(self, tasks: Sequence[FusionTask[Any]]) -> Asked:
        """Hand it its tasks of a tick; by the wall clock, nothing while it is being made anew."""
        if self._away and not self._is_back():
            return Asked(self._life, None)
        needed = {(record.agent_id, record.tick): message for task in tasks for record, message in task.arrived}
        requests, senders = [task.request for task in tasks], [task.senders for task in tasks]
        return Asked(self._life, self.actor.step.remote(requests, senders, list(needed), list(needed.values())))

    def answer(self, asked: Asked) -> list[FusionOutcome] | None:
        """What it has found, task by task; None if it broke meanwhile."""
        if asked.reference is None:
            return None
        try:
            outcomes: list[FusionOutcome] = ray.get(asked.reference, timeout=self._deployment.hang_s)
        except DIED_ERRORS:
            self._broken(asked, hung=False)
            return None
        except ray.exceptions.GetTimeoutError:
            self._broken(asked, hung=True)
            return None
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        return outcomes

    def take_faults(self) -> list[Fault]:
        """What has broken or come back since it was last asked."""
        faults, self._faults = self._faults, []
        return faults

    def close(self) -> None:
        """End the actor."""
        ray.kill(self.actor)

    def _broken(self, asked: Asked, hung: bool) -> None:
        """Note it once for each life, and begin the next one."""
        if asked.life == self._life:
            self._faults.append(Fault("fusion node hung" if hung else "fusion node crashed"))
            self._renew()

    def _renew(self) -> None:
        """Begin the next life."""
        ray.kill(self.actor)
        self._life, self._away = self._life + 1, True
        self.actor = self._create()
        self._ready = self.actor.ready.remote()

    def _is_back(self) -> bool:
        """Whether the new actor answers; in simulated time it is waited for."""
        if self._options.realtime and not ray.wait([self._ready], timeout=0)[0]:
            return False
        try:
            ray.get(self._ready, timeout=self._deployment.hang_s)
        except (*DIED_ERRORS, ray.exceptions.GetTimeoutError):
            self._renew()
            return False
        self._away = False
        self._faults.append(Fault("fusion node restarted"))
        return True

    def _create(self) -> Any:
        remote = ray.remote(**self._place())(NodeActor)
        return remote.remote(self._base, self._base_hash, self._options, self._deployment.hang_s)
