"""The actors that host a run's agents: which actor hosts which agents, what they are asked, and their restarts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import ray

from heal.agents.deployment import Deployment
from heal.agents.on_ray.actors import AgentActor
from heal.agents.on_ray.cluster import Placer
from heal.agents.on_ray.restarting import ActorBrokeError, FaultKinds, RestartingActor
from heal.agents.records import Fault
from heal.agents.tick import AgentStep, Missing, TickCoordinator, TickPlan

# An actor that has broken so often without a tick in between is not started again: whatever breaks it would break it again.
MAX_CRASHES = 3
RESTARTING, GIVEN_UP = "agent restarting", "agent given up"
BUSY, UNFINISHED = "agent busy", "not computed in time"
FAULT_KINDS = FaultKinds("agent crashed", "agent hung", "agent rejoined")


@dataclass
class AgentJob:
    """What one actor computes in a tick.

    Attributes:
        plan: of the tick.
        host: the actor.
        generation: of the actor when it was asked.
        agent_ids: the agents that step.
        messages: references to their messages.
        reports: references to their reports.
        began_s: when the actor was asked, by the monotonic clock.
    """

    plan: TickPlan
    host: HostedAgents
    generation: int
    agent_ids: tuple[str, ...]
    messages: list[Any]
    reports: list[Any]
    began_s: float = field(default_factory=monotonic)

    @property
    def now_ns(self) -> int:
        """Simulated time of the tick."""
        return self.plan.outline.timestamp_ns


class HostedAgents:
    """One actor and the agents of one type that it hosts.

    Attributes:
        agent_type: of the agents.
        agent_ids: the agents.
        process: the actor.
        unfinished: the job that the actor has not finished by the job's deadline; None if there is none.
    """

    def __init__(
        self, agent_type: str, create: Callable[[], Any], report: Callable[[Fault], None], deployment: Deployment, realtime: bool
    ) -> None:
        """Start the actor; it hosts no agent yet. Faults of its agents go to `report`."""
        self.agent_type = agent_type
        self.agent_ids: list[str] = []
        self.unfinished: AgentJob | None = None
        self.process = RestartingActor(
            create,
            FAULT_KINDS,
            lambda: self.agent_ids,
            report,
            hang_s=deployment.hang_s,
            realtime=realtime,
            restart_ms=deployment.restart_ms,
            max_crashes=MAX_CRASHES,
        )

    def reason_of_absence(self, now_ns: int) -> str | None:
        """Return why the agents take no part in a tick at `now_ns`; None if they do."""
        if self.process.given_up:
            return GIVEN_UP
        if self.unfinished is not None:
            return BUSY
        return None if self.process.takes_part(now_ns) else RESTARTING

    def ask(self, plan: TickPlan, agent_ids: Sequence[str]) -> AgentJob:
        """Let some of the agents step in a tick."""
        requests = [plan.agent_request(agent_id) for agent_id in agent_ids]
        parts = self.process.actor.step.options(num_returns=2 * len(requests)).remote(plan.tick, requests)
        return AgentJob(plan, self, self.process.generation, tuple(agent_ids), parts[::2], parts[1::2])


class AgentPool:
    """The actors of a run's agents.

    An agent keeps its actor for as long as the agent is in the scenes. The place of an agent that has gone is free for the next new
    agent of its type, so that a change of scenario starts no new processes.
    """

    def __init__(self, coordinator: TickCoordinator[Any], deployment: Deployment) -> None:
        """Make a pool without actors."""
        self._coordinator, self._deployment = coordinator, deployment
        self._placer = Placer(deployment)
        self._setups: dict[str, Any] = {}
        self._hosts: list[HostedAgents] = []
        self._faults: list[Fault] = []

    def begin(self, plan: TickPlan) -> tuple[list[AgentJob], dict[str, Missing]]:
        """Ask the actors for their agents' steps in a tick.

        Returns:
            The jobs, and the agents that cannot take part, with the reason.
        """
        self._assign(plan)
        missing: dict[str, Missing] = {}
        jobs = []
        for host in self._hosts:
            here = tuple(agent_id for agent_id in plan.agent_types if agent_id in host.agent_ids)
            reason = host.reason_of_absence(plan.outline.timestamp_ns) if here else None
            if reason is not None:
                missing.update(dict.fromkeys(here, Missing(reason)))
            elif here:
                jobs.append(host.ask(plan, here))
        return jobs, missing

    def steps(self, job: AgentJob, elapsed_ms: float) -> list[AgentStep[Any] | Missing]:
        """Return the finished steps of a job; an actor that has died or hung is started again.

        Args:
            job: as begun.
            elapsed_ms: how long after the beginning of its tick it was done.

        Raises:
            Exception: an error that an agent has raised.
        """
        try:
            reports = job.host.process.results(job.reports, job.generation, job.now_ns)
        except ActorBrokeError as error:
            return [self._missing(job, error)] * len(job.agent_ids)
        return [AgentStep(report, message, elapsed_ms) for report, message in zip(reports, job.messages, strict=True)]

    def give_up_on(self, job: AgentJob) -> None:
        """Restart the actor of a job that has hung."""
        self._missing(job, job.host.process.broke(job.generation, hung=True, now_ns=job.now_ns))

    def take_faults(self) -> list[Fault]:
        """Return the faults and returns of all actors since the last call."""
        faults, self._faults = self._faults, []
        return faults

    def actor_of(self, agent_id: str) -> Any:
        """Return the actor that hosts an agent; KeyError if none does."""
        for host in self._hosts:
            if agent_id in host.agent_ids:
                return host.process.actor
        raise KeyError(f"no agent {agent_id!r} in this run; there are {[name for host in self._hosts for name in host.agent_ids]}")

    def close(self) -> None:
        """End all actors."""
        for host in self._hosts:
            host.process.end()

    def _missing(self, job: AgentJob, error: ActorBrokeError) -> Missing:
        """Free the host of a job whose actor broke."""
        if job.host.unfinished is job:
            job.host.unfinished = None
        return Missing(error.kind)

    def _assign(self, plan: TickPlan) -> None:
        """Give every agent of a tick a place in an actor of its type, and wait until new actors answer."""
        for host in self._hosts:
            if not host.process.given_up:
                host.agent_ids = [name for name in host.agent_ids if plan.agent_types.get(name) == host.agent_type]
        hosted = {name for host in self._hosts for name in host.agent_ids}
        started: list[HostedAgents] = []
        for agent_id, agent_type in plan.agent_types.items():
            if agent_id not in hosted:
                host = self._free_host(agent_type) or self._start(agent_type, started)
                host.agent_ids.append(agent_id)
        for host in started:
            host.process.wait_until_ready()

    def _free_host(self, agent_type: str) -> HostedAgents | None:
        for host in self._hosts:
            free = len(host.agent_ids) < self._deployment.agents_per_actor
            if host.agent_type != agent_type or not free or host.process.given_up:
                continue
            # Nobody would have noticed the end of an actor without agents.
            if host.agent_ids or host.process.check_alive():
                return host
        return None

    def _start(self, agent_type: str, started: list[HostedAgents]) -> HostedAgents:
        realtime = self._coordinator.options.realtime
        host = HostedAgents(agent_type, lambda: self._create(agent_type), self._note, self._deployment, realtime)
        started.append(host)
        self._hosts.append(host)
        return host

    def _note(self, fault: Fault) -> None:
        self._faults.append(fault)

    def _create(self, agent_type: str) -> Any:
        if agent_type not in self._setups:
            self._setups[agent_type] = ray.put(self._coordinator.agent_setup(agent_type))
        remote = ray.remote(**self._placer.for_agents())(AgentActor)
        return remote.remote(self._setups[agent_type])
