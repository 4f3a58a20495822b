"""The actors that host a run's agents: which actor hosts which agents, what they are asked, and their restarts."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import ray

from heal.agents.deployment import GIVEN_UP, Deployment
from heal.agents.failures import FAILED, AgentFailure
from heal.agents.faults import Fault, FaultKind
from heal.agents.on_ray.actors import AgentActor
from heal.agents.on_ray.cluster import DIED_ERRORS
from heal.agents.on_ray.placement import (
    Demand,
    Placer,
    has_room,
    machines,
    node_demand,
    require_room,
    reserves_memory,
    warn_of_memory,
)
from heal.agents.on_ray.restarting import START_S, ActorBrokeError, FaultKinds, RestartingActor
from heal.agents.records import BUSY, AgentAside
from heal.agents.tick import TickCoordinator
from heal.agents.tick_plan import AgentStep, Missing, TickPlan

# An actor that has broken so often without a tick in between is not started again: whatever breaks it would break it again.
MAX_CRASHES = 3
RESTARTING = "agent restarting"
NOT_PLACED: FaultKind = "agent not placed"
_log = logging.getLogger(__name__)
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
        asides: a reference to what they tell beside their messages; None if nothing is wanted.
        began_s: when the actor was asked, by the monotonic clock.
    """

    plan: TickPlan
    host: HostedAgents
    generation: int
    agent_ids: tuple[str, ...]
    messages: list[Any]
    reports: list[Any]
    asides: Any = None
    began_s: float = field(default_factory=monotonic)

    @property
    def now_ns(self) -> int:
        """Simulated time of the tick."""
        return self.plan.outline.timestamp_ns

    @property
    def done(self) -> Any:
        """A reference that is there once the job is done: the results of a call come together."""
        return self.reports[-1]


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

    def ask(self, plan: TickPlan, agent_ids: Sequence[str], aside: bool = False) -> AgentJob:
        """Let some of the agents step in a tick, and tell then what pictures and the evaluation want to know if `aside`."""
        requests = [plan.agent_request(agent_id) for agent_id in agent_ids]
        parts = self.process.actor.step.options(num_returns=2 * len(requests)).remote(requests)
        asides = self.process.actor.asides.remote(plan.tick) if aside else None
        return AgentJob(plan, self, self.process.generation, tuple(agent_ids), parts[::2], parts[1::2], asides)


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
        self._not_placed: set[str] = set()

    def begin(self, plan: TickPlan) -> tuple[list[AgentJob], dict[str, Missing]]:
        """Ask the actors for their agents' steps in a tick; `assign` must have been called for it.

        Returns:
            The jobs, and the agents that cannot take part, with the reason.
        """
        missing = {agent_id: Missing(NOT_PLACED) for agent_id in plan.agent_types if agent_id in self._not_placed}
        jobs, aside = [], self._coordinator.options.needs_aside(plan.tick)
        for host in self._hosts:
            here = tuple(agent_id for agent_id in plan.agent_types if agent_id in host.agent_ids)
            reason = host.reason_of_absence(plan.outline.timestamp_ns) if here else None
            if reason is not None:
                missing.update(dict.fromkeys(here, Missing(reason)))
            elif here:
                jobs.append(host.ask(plan, here, aside))
        return jobs, missing

    def steps(self, job: AgentJob, elapsed_ms: float) -> list[AgentStep[Any] | Missing]:
        """Return the finished steps of a job; an actor that has died or hung is started again, one with an error stays.

        Args:
            job: as begun.
            elapsed_ms: how long after the beginning of its tick it was done.
        """
        try:
            reports = job.host.process.results(job.reports, job.generation, job.now_ns)
        except ActorBrokeError as error:
            return [self._missing(job, error)] * len(job.agent_ids)
        except Exception as error:  # noqa: BLE001 - for example results that cannot be read in this process
            return [Missing(FAILED, failure=AgentFailure.of(error))] * len(job.agent_ids)
        return [
            Missing(FAILED, failure=report) if isinstance(report, AgentFailure) else AgentStep(report, message, elapsed_ms)
            for report, message in zip(reports, job.messages, strict=True)
        ]

    def asides(self, references: Sequence[Any]) -> list[AgentAside]:
        """Return what agents tell beside their messages; an actor that dies or hangs meanwhile is found out at its next step."""
        told: list[AgentAside] = []
        until_s = monotonic() + self._deployment.hang_s
        for reference in references:
            with suppress(*DIED_ERRORS, ray.exceptions.GetTimeoutError):
                told += ray.get(reference, timeout=max(0.0, until_s - monotonic()))
        return told

    def warm(self, plan: TickPlan) -> list[AgentStep[Any]]:
        """Let all agents of a tick step once before the clock starts; return the steps, which are good for nothing else."""
        jobs, _ = self.begin(plan)
        calls = [call for job in jobs for call in (job.done, job.asides) if call is not None]
        ray.wait(calls, num_returns=len(calls), timeout=self._deployment.hang_s)
        steps = [step for job in jobs for step in self.steps(job, 0.0)]
        return [step for step in steps if isinstance(step, AgentStep)]

    def give_up_on(self, job: AgentJob) -> list[Missing]:
        """Restart the actor of a job that has hung; return why each of its agents is missing."""
        return [self._missing(job, job.host.process.broke(job.generation, hung=True, now_ns=job.now_ns))] * len(job.agent_ids)

    def take_faults(self) -> list[Fault]:
        """Return the faults and returns of all actors since the last call."""
        faults, self._faults = self._faults, []
        return faults

    def process_of(self, agent_id: str) -> RestartingActor | None:
        """Return the actor that hosts an agent; None if none does."""
        return next((host.process for host in self._hosts if agent_id in host.agent_ids), None)

    def close(self) -> None:
        """End all actors."""
        for host in self._hosts:
            host.process.end()

    def _missing(self, job: AgentJob, error: ActorBrokeError) -> Missing:
        """Free the host of a job whose actor broke."""
        if job.host.unfinished is job:
            job.host.unfinished = None
        return Missing(error.kind)

    def assign(self, plan: TickPlan) -> None:
        """Give every agent of a tick a place in an actor of its type, and wait until new actors answer.

        By the wall clock only the first tick waits: later, the agents of a new actor take part once it answers.

        Raises:
            UserError: the agents of the run's first tick need more actors than the cluster has room for. Later an agent without
                room is a fault, and takes part once there is room.
        """
        for host in self._hosts:
            if not host.process.given_up:
                host.agent_ids = [name for name in host.agent_ids if plan.agent_types.get(name) == host.agent_type]
        hosted = {name for host in self._hosts for name in host.agent_ids}
        new = [agent_id for agent_id in plan.agent_types if agent_id not in hosted]
        resources = machines() if new else []
        if plan.number == 0:
            demands = self._demands(plan.agent_types)
            require_room(resources, demands)
            warn_of_memory(resources, self._deployment, sum(demand.actors for demand in demands))
        started: list[HostedAgents] = []
        for agent_id in new:
            agent_type = plan.agent_types[agent_id]
            self._place(agent_id, self._free_host(agent_type) or self._start(agent_type, started, resources))
        self._not_placed &= set(plan.agent_types)
        if started:
            _log.info("starting agents, processes: %d", len(started))
        for host in started:
            if self._coordinator.options.realtime and plan.number > 0:
                host.process.start_beside()
            else:
                # They start side by side, and share the cores.
                self._await(host, plan, max(self._deployment.hang_s, START_S * len(started)))

    def _demands(self, agent_types: Mapping[str, str]) -> list[Demand]:
        """Return all actors that a tick needs, if none is there yet."""
        deployment, sizes = self._deployment, Counter(agent_types.values())
        actors = sum(-(-size // deployment.agents_per_actor) for size in sizes.values())
        return [Demand("agents", actors, deployment.gpus_per_actor), node_demand(deployment, self._coordinator.options)]

    def _place(self, agent_id: str, host: HostedAgents | None) -> None:
        """Give an agent a place in an actor; note it as a fault, once, if there is no room for an actor."""
        if host is not None:
            host.agent_ids.append(agent_id)
            _log.debug("agent %s has a place in a process of type %s", agent_id, host.agent_type)
            if agent_id in self._not_placed:
                self._not_placed.remove(agent_id)
                self._note(Fault("agent rejoined", agent_id))
        elif agent_id not in self._not_placed:
            self._not_placed.add(agent_id)
            self._note(Fault(NOT_PLACED, agent_id))

    def _await(self, host: HostedAgents, plan: TickPlan, limit_s: float) -> None:
        """Wait until a new actor answers.

        One that cannot start ends the run at the first tick, and is a crash at later ones, or has hung after `limit_s`.
        """
        try:
            host.process.wait_until_ready(limit_s if plan.number else None)
        except (*DIED_ERRORS, ray.exceptions.GetTimeoutError) as error:
            if plan.number == 0:
                raise
            hung = isinstance(error, ray.exceptions.GetTimeoutError)
            host.process.broke(host.process.generation, hung, plan.outline.timestamp_ns)

    def _free_host(self, agent_type: str) -> HostedAgents | None:
        for host in self._hosts:
            free = len(host.agent_ids) < self._deployment.agents_per_actor
            if host.agent_type != agent_type or not free or host.process.given_up:
                continue
            # Nobody would have noticed the end of an actor without agents.
            if host.agent_ids or host.process.check_alive():
                return host
        return None

    def _start(self, agent_type: str, started: list[HostedAgents], resources: Sequence[Mapping[str, float]]) -> HostedAgents | None:
        """Start an actor; None if the cluster has no room for one more."""
        here = sum(not host.process.given_up for host in self._hosts)
        demand = Demand("agents", here + 1, self._deployment.gpus_per_actor)
        nodes = node_demand(self._deployment, self._coordinator.options)
        if not has_room(resources, [demand, nodes]):
            return None
        reserves = reserves_memory(resources, self._deployment, demand.actors + nodes.actors)
        realtime = self._coordinator.options.realtime
        host = HostedAgents(agent_type, lambda: self._create(agent_type, reserves), self._note, self._deployment, realtime)
        started.append(host)
        self._hosts.append(host)
        return host

    def _note(self, fault: Fault) -> None:
        self._faults.append(fault)

    def _create(self, agent_type: str, reserves: bool) -> Any:
        if agent_type not in self._setups:
            self._setups[agent_type] = ray.put(self._coordinator.agent_setup(agent_type))
        remote = ray.remote(**self._placer.for_agents(reserves))(AgentActor)
        return remote.remote(self._setups[agent_type], self._deployment.device)
