"""The actors that host a run's fusion nodes: which regions each of them fuses, what they are asked, and their restarts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from heal.agents.deployment import Deployment
from heal.agents.faults import Fault
from heal.agents.fusion.division import FusionTask, node_of
from heal.agents.fusion.knowledge import NodeKnowledge
from heal.agents.interfaces import AllianceLike
from heal.agents.on_ray.actors import AHEAD, NodeActor
from heal.agents.on_ray.placement import Placer, machines, node_demand, reserves_memory
from heal.agents.on_ray.restarting import ActorBrokeError, FaultKinds, RestartingActor
from heal.agents.options import RunOptions
from heal.agents.records import FusionOutcome, FusionRequest, Sender
from heal.identity.allow_list import AllowedSenders

FAULT_KINDS = FaultKinds("fusion node crashed", "fusion node hung", "fusion node restarted")
# A fault of a fusion node belongs to no agent.
_OWNERS = ("",)
# With a deadline of 0, too, there is time for a message that is on its way between two machines.
LEAST_FETCH_S = 0.1


@dataclass(frozen=True)
class NodeJob:
    """What one actor is asked in a tick.

    Attributes:
        process: the actor.
        places: of its tasks among those of the tick.
        generation: of the actor when it was asked.
        outcomes: a reference to the outcomes; None if the actor was away.
    """

    process: RestartingActor
    places: tuple[int, ...]
    generation: int
    outcomes: Any


@dataclass(frozen=True)
class NodeJobs:
    """What all actors are asked in a tick, and the number of the tick's tasks."""

    tasks: int
    jobs: tuple[NodeJob, ...]


class NodePool:
    """The actors of a run's fusion nodes, among which its regions are divided.

    A single actor is placed beside the driver, several are placed as the agents' actors are. A restarted actor has lost the maps
    that it held, and the ticks during which it was away; but no message that was used before is used again.
    """

    def __init__(
        self, alliance: AllianceLike, options: RunOptions, deployment: Deployment, allowed: AllowedSenders | None = None
    ) -> None:
        """Start the actors; without regions a single one.

        Args:
            alliance: whose base fuses, with its trust in agent types.
            options: of the run.
            deployment: of the run.
            allowed: see `NodeKnowledge`.
        """
        self._options, self._deployment, self._placer, self._allowed = options, deployment, Placer(deployment), allowed
        self._known = ray.put(NodeKnowledge.of(alliance, options))
        self._count = node_demand(deployment, options).actors
        resources = machines()
        self._reserves = reserves_memory(resources, deployment, self._count)
        # On a single machine there is nothing to fetch.
        self._fetches_ahead = len(resources) > 1
        self._faults: list[Fault] = []
        # The largest sequence number of each key that any actor has used: what a restarted one must know of the time before.
        self._used_sequences: dict[bytes, int] = {}
        self._processes = [self._start(options.realtime) for _ in range(self._count)]

    @property
    def count(self) -> int:
        """Number of actors."""
        return self._count

    def process(self, number: int) -> RestartingActor | None:
        """Return one of the actors, counted from 0; None if there are fewer."""
        return self._processes[number] if number < self._count else None

    def wait_until_ready(self) -> None:
        """Return once all actors answer."""
        for process in self._processes:
            process.wait_until_ready()

    def warm(self, request: FusionRequest, senders: Sequence[Sender], messages: Sequence[Any]) -> None:
        """Let all actors fuse messages once before the clock starts; an actor that breaks at it is found out at its first tick."""
        calls = [process.actor.warm.remote(request, list(senders), list(messages)) for process in self._processes]
        ray.wait(calls, num_returns=len(calls), timeout=self._deployment.hang_s)

    def ask(self, tasks: Sequence[FusionTask[Any]]) -> NodeJobs:
        """Ask the actors for the tasks of a tick; an actor that is being restarted is not asked."""
        places: list[list[int]] = [[] for _ in self._processes]
        for place, task in enumerate(tasks):
            places[node_of(task.request.region, self._count)].append(place)
        shares = [(process, tuple(own)) for process, own in zip(self._processes, places, strict=True) if own]
        for process, own in zip(self._processes, places, strict=True):
            if not own:
                process.notice_death()
        return NodeJobs(len(tasks), tuple(self._ask(process, own, [tasks[place] for place in own]) for process, own in shares))

    def outcomes(self, asked: NodeJobs) -> list[FusionOutcome | None]:
        """Return the outcome of each task; None where the actor was away or broke. All actors are waited for together."""
        calls = [job.outcomes for job in asked.jobs if job.outcomes is not None]
        done = set(ray.wait(calls, num_returns=len(calls), timeout=self._deployment.hang_s)[0]) if calls else set()
        outcomes: list[FusionOutcome | None] = [None] * asked.tasks
        for job in asked.jobs:
            for place, outcome in zip(job.places, _outcomes(job, done), strict=False):
                outcomes[place] = outcome
                self._note_used(outcome)
        return outcomes

    def take_faults(self) -> list[Fault]:
        """Return the faults and returns of all actors since the last call."""
        faults, self._faults = self._faults, []
        return faults

    def close(self) -> None:
        """End all actors."""
        for process in self._processes:
            process.end()

    def _start(self, realtime: bool) -> RestartingActor:
        hang_s = self._deployment.hang_s
        return RestartingActor(self._create, FAULT_KINDS, lambda: _OWNERS, self._note, hang_s=hang_s, realtime=realtime)

    def _ask(self, process: RestartingActor, places: tuple[int, ...], tasks: Sequence[FusionTask[Any]]) -> NodeJob:
        # In simulated time the restart of a fusion node is waited for.
        if not process.takes_part():
            return NodeJob(process, places, process.generation, None)
        needed = {(record.agent_id, record.tick): message for task in tasks for record, message in task.arrived}
        requests, senders = [task.request for task in tasks], [task.senders for task in tasks]
        if self._fetches_ahead and needed:
            # Beside the step of the tick before, in which the actor still is.
            process.actor.fetch.options(concurrency_group=AHEAD).remote(list(needed.values()))
        outcomes = process.actor.step.remote(requests, senders, list(needed), list(needed.values()))
        return NodeJob(process, places, process.generation, outcomes)

    def _note(self, fault: Fault) -> None:
        self._faults.append(fault)

    def _note_used(self, outcome: FusionOutcome) -> None:
        for key_id, sequence in outcome.used_sequences.items():
            self._used_sequences[key_id] = max(sequence, self._used_sequences.get(key_id, sequence))

    def _create(self) -> Any:
        placed = self._placer.for_node(self._count > 1, self._reserves)
        fetch_s = fetch_limit_s(self._deployment, self._options)
        groups = {AHEAD: 1} if self._fetches_ahead else None
        allowed = None if self._allowed is None else self._allowed.after(self._used_sequences)
        actor = ray.remote(**placed, concurrency_groups=groups)(NodeActor)
        return actor.remote(self._known, allowed, fetch_s, self._deployment.device)


def fetch_limit_s(deployment: Deployment, options: RunOptions) -> float:
    """Return for how long a fusion node waits for the messages of a tick that lie on other machines, in s.

    The time is a third of `Deployment.hang_s`, so that a message that cannot be fetched does not make the node look hung. By the
    wall clock it is no longer than the deadline of a tick either.
    """
    limit_s = deployment.hang_s / 3
    return min(limit_s, max(options.deadline_ms / 1e3, LEAST_FETCH_S)) if options.realtime else limit_s


def _outcomes(job: NodeJob, done: Collection[Any]) -> Sequence[FusionOutcome]:
    """Return the outcomes of a job; none if its actor was away, has broken, or has hung and so is not among those that are done."""
    if job.outcomes is None:
        return ()
    if job.outcomes not in done:
        job.process.broke(job.generation, hung=True)
        return ()
    try:
        outcomes: list[FusionOutcome] = job.process.results(job.outcomes, job.generation)
    except ActorBrokeError:
        return ()
    return outcomes
