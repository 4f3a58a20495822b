"""Which actor serves which agents, and what happens when it breaks: it is ended and made anew, and its agents rejoin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import ray

from heal.agents.agent import Errand
from heal.agents.deployment import Deployment
from heal.agents.on_ray.actors import AgentActor
from heal.agents.on_ray.cluster import DIED_ERRORS, Placer
from heal.agents.records import Fault, FaultKind
from heal.agents.tick import Missing, Stepped, TickBook, TickPlan

# An actor that has broken so often without a tick in between is not made anew: whatever it is, it would break again.
MAX_CRASHES = 3
RESTARTING, GIVEN_UP = "agent restarting", "agent given up"
BUSY, UNFINISHED = "agent busy", "not computed in time"


@dataclass
class Job:
    """Agents of one actor at one tick.

    Attributes:
        plan: of the tick.
        crew: whose actor it is.
        life: which of the crew's actors, counted from 0.
        agent_ids: the agents.
        messages: references to their messages.
        reports: references to their reports.
        began_s: when it was handed out, by the monotonic clock.
    """

    plan: TickPlan
    crew: Crew
    life: int
    agent_ids: tuple[str, ...]
    messages: list[Any]
    reports: list[Any]
    began_s: float = field(default_factory=monotonic)


@dataclass
class Crew:
    """The agents of one actor. An actor that is made anew begins another of the crew's lives."""

    agent_type: str
    actor: Any
    agent_ids: list[str] = field(default_factory=list)
    life: int = 0
    crashes: int = 0
    ready: Any = None
    back_at_ns: int | None = None
    unfinished: Job | None = None

    @property
    def given_up(self) -> bool:
        """Whether it has broken for good."""
        return self.crashes >= MAX_CRASHES


class ActorPool:
    """The crews of a run.

    An agent keeps its actor for as long as it is in the scenes. One that is no longer there leaves its seat to the next newcomer of
    its type, so a change of scenario makes no new processes.
    """

    def __init__(self, book: TickBook[Any], deployment: Deployment) -> None:
        """Start with no actor."""
        self._book, self._deployment = book, deployment
        self._placer = Placer(deployment)
        self._kits: dict[str, Any] = {}
        self._crews: list[Crew] = []
        self._faults: list[Fault] = []

    def begin(self, plan: TickPlan) -> tuple[list[Job], dict[str, Missing]]:
        """Hand a tick out to the actors.

        Returns:
            The jobs, and the agents that cannot take part, with the reason.
        """
        self._seat(plan)
        missing: dict[str, Missing] = {}
        jobs = []
        for crew in self._crews:
            here = tuple(agent_id for agent_id in plan.agent_types if agent_id in crew.agent_ids)
            absent = self._absent(crew, plan) if here else None
            if absent is not None:
                missing.update(dict.fromkeys(here, Missing(absent)))
            elif here:
                jobs.append(self._hand_out(crew, plan, here))
        return jobs, missing

    def take_faults(self) -> list[Fault]:
        """What has broken or come back since it was last asked."""
        faults, self._faults = self._faults, []
        return faults

    def crew_of(self, agent_id: str) -> Crew:
        """The crew that serves an agent; KeyError if none does."""
        for crew in self._crews:
            if agent_id in crew.agent_ids:
                return crew
        raise KeyError(f"no agent {agent_id!r} in this run; there are {[name for crew in self._crews for name in crew.agent_ids]}")

    def broken(self, job: Job, hung: bool) -> Missing:
        """Note that a job's actor has broken, once for each of its lives, and begin the next one."""
        kind: FaultKind = "agent hung" if hung else "agent crashed"
        if job.life == job.crew.life:
            self._renew(job.crew, kind, job.plan.outline.timestamp_ns)
        return Missing(kind)

    def _renew(self, crew: Crew, kind: FaultKind, now_ns: int) -> None:
        """Begin a crew's next life."""
        self._faults += [Fault(kind, agent_id) for agent_id in crew.agent_ids]
        crew.crashes, crew.life, crew.unfinished = crew.crashes + 1, crew.life + 1, None
        crew.back_at_ns = now_ns + round(self._deployment.restart_ms * 1e6)
        ray.kill(crew.actor)
        if not crew.given_up:
            crew.actor = self._create(crew.agent_type)
            crew.ready = crew.actor.ready.remote()

    def results(self, job: Job, elapsed_ms: float) -> list[Stepped[Any] | Missing]:
        """What the agents of a job have done, or that their actor has died or hung; an error of theirs is raised."""
        try:
            reports = ray.get(job.reports, timeout=self._deployment.hang_s)
        except DIED_ERRORS:
            return [self.broken(job, hung=False)] * len(job.agent_ids)
        except ray.exceptions.GetTimeoutError:
            return [self.broken(job, hung=True)] * len(job.agent_ids)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        job.crew.crashes = 0
        return [Stepped(report, message, elapsed_ms) for report, message in zip(reports, job.messages, strict=True)]

    def close(self) -> None:
        """End all actors."""
        for crew in self._crews:
            ray.kill(crew.actor)

    def _hand_out(self, crew: Crew, plan: TickPlan, agent_ids: Sequence[str]) -> Job:
        errands: list[Errand] = [plan.errand(agent_id) for agent_id in agent_ids]
        parts = crew.actor.step.options(num_returns=2 * len(errands)).remote(plan.tick, errands)
        return Job(plan, crew, crew.life, tuple(agent_ids), parts[::2], parts[1::2])

    def _absent(self, crew: Crew, plan: TickPlan) -> str | None:
        """Why a crew takes no part in a tick; None if it does."""
        if crew.given_up:
            return GIVEN_UP
        if crew.unfinished is not None:
            return BUSY
        if crew.back_at_ns is not None and not self._is_back(crew, plan.outline.timestamp_ns):
            return RESTARTING
        return None

    def _is_back(self, crew: Crew, now_ns: int) -> bool:
        """Whether a crew's new actor takes part; in simulated time, from the time on at which it is to be back."""
        if self._book.options.realtime:
            due = bool(ray.wait([crew.ready], timeout=0)[0])
        else:
            due = crew.back_at_ns is None or now_ns >= crew.back_at_ns
        if not due:
            return False
        try:
            ray.get(crew.ready, timeout=self._deployment.hang_s)
        except (*DIED_ERRORS, ray.exceptions.GetTimeoutError):
            # Such as one that Ray has placed on a machine of which it does not know yet that it is gone.
            self._renew(crew, "agent crashed", now_ns)
            return False
        crew.back_at_ns = None
        self._faults += [Fault("agent rejoined", agent_id) for agent_id in crew.agent_ids]
        return True

    def _seat(self, plan: TickPlan) -> None:
        """Give every agent of a tick a seat in a crew of its type; new actors have been found healthy."""
        for crew in self._crews:
            if not crew.given_up:
                crew.agent_ids = [name for name in crew.agent_ids if plan.agent_types.get(name) == crew.agent_type]
        seated = {name for crew in self._crews for name in crew.agent_ids}
        created: list[Any] = []
        for agent_id, agent_type in plan.agent_types.items():
            if agent_id not in seated:
                crew = self._free_crew(agent_type) or self._new_crew(agent_type, created)
                crew.agent_ids.append(agent_id)
        ray.get(created)

    def _free_crew(self, agent_type: str) -> Crew | None:
        for crew in self._crews:
            free = len(crew.agent_ids) < self._deployment.agents_per_actor
            if crew.agent_type == agent_type and free and not crew.given_up and self._is_alive(crew):
                return crew
        return None

    def _is_alive(self, crew: Crew) -> bool:
        """Whether an actor without agents, of which nobody would have noticed, is still there."""
        if crew.agent_ids:
            return True
        try:
            ray.get(crew.actor.ready.remote(), timeout=self._deployment.hang_s)
        except (*DIED_ERRORS, ray.exceptions.GetTimeoutError):
            crew.crashes = MAX_CRASHES
            return False
        return True

    def _new_crew(self, agent_type: str, created: list[Any]) -> Crew:
        crew = Crew(agent_type, self._create(agent_type))
        created.append(crew.actor.ready.remote())
        self._crews.append(crew)
        return crew

    def _create(self, agent_type: str) -> Any:
        if agent_type not in self._kits:
            self._kits[agent_type] = ray.put(self._book.kit(agent_type))
        remote = ray.remote(**self._placer.for_agents())(AgentActor)
        return remote.remote(self._kits[agent_type])
