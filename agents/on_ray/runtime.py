"""A run on Ray: every agent and every fusion node is an actor.

Messages go from actor to actor through Ray's object store. The driver learns their sizes and times, not their content.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Any

import ray
import torch

from heal.agent_types import TypesOf
from heal.agents.deployment import Deployment, PlannedFault
from heal.agents.door.options import DoorOptions
from heal.agents.faults import Fault
from heal.agents.fusion.host import require_base
from heal.agents.fusion.sender_check import allowed_senders
from heal.agents.interfaces import AllianceLike
from heal.agents.network.network import Network, PerfectNetwork
from heal.agents.on_ray.agent_pool import AgentJob, AgentPool
from heal.agents.on_ray.cluster import start_ray, stop_ray
from heal.agents.on_ray.door import RayDoor
from heal.agents.on_ray.node_pool import NodeJobs, NodePool
from heal.agents.on_ray.placement import Demand, machines, node_demand, require_room
from heal.agents.on_ray.prometheus import RunMetrics
from heal.agents.on_ray.waiting import done_times
from heal.agents.options import RunOptions
from heal.agents.records import UNFINISHED, FusionOutcome, TickResult
from heal.agents.tick import TickCoordinator
from heal.agents.tick_plan import AgentStep, Delivery, Missing, TickPlan
from heal.errors import UserError
from heal.types import SceneSource

_log = logging.getLogger(__name__)
# By the wall clock, the longest time for which a tick waits for the ego's own map: an ego that hangs must not stop the others.
OWN_MAP_S = 10.0
# By the wall clock, the results that may wait for their labels before the run waits for them.
MOST_SETTLING = 64


@dataclass
class _Encoding:
    """A tick that is being encoded: its jobs, the agents that are missing, and the faults so far."""

    plan: TickPlan
    jobs: list[AgentJob]
    missing: dict[str, Missing]
    faults: list[Fault]


@dataclass
class _Fusing:
    """A tick that is being fused: its messages, what the fusion nodes and the agents were asked, and the faults so far."""

    plan: TickPlan
    delivery: Delivery[Any]
    asked: NodeJobs
    asides: list[Any]
    faults: list[Fault]


@dataclass(frozen=True)
class _Work:
    """The ticks in work, in order: first those that are being fused, then those that are being encoded."""

    encoding: deque[_Encoding]
    fusing: deque[_Fusing]


class RayRuntime:
    """Runs ticks on Ray (see `heal.agents.runtime.Runtime`): the Ray of this process, a cluster, or one that it starts."""

    def __init__(
        self,
        alliance: AllianceLike,
        source: SceneSource,
        types_of: TypesOf,
        network: Network | None = None,
        options: RunOptions | None = None,
        deployment: Deployment | None = None,
    ) -> None:
        """Start Ray and the fusion nodes; the arguments are those of `heal.agents.runtime.open_runtime`."""
        self._options, self._deployment = options or RunOptions(), deployment or Deployment()
        require_base(alliance.base, self._options)
        self._allowed = allowed_senders(self._options)
        self._owns_ray = start_ray(self._deployment.address, self._deployment.metrics_port, self._deployment.object_store_mib)
        self._require_room()
        self._coordinator: TickCoordinator[Any] = TickCoordinator(
            alliance, source, types_of, network or PerfectNetwork(), self._options, tolerant=True
        )
        self._agents = AgentPool(self._coordinator, self._deployment)
        self._nodes = NodePool(alliance, self._options, self._deployment, self._allowed)
        self._metrics = RunMetrics() if self._deployment.collects_metrics else None
        realtime, pipeline = self._options.realtime, self._deployment.pipeline
        self._encode_ahead = 0 if realtime else pipeline
        # The fusion nodes may be one tick ahead of the driver, unless one thing is to happen after the other.
        self._fuse_ahead = 1 if realtime or pipeline else 0
        self._unfinished: list[AgentJob] = []
        self._settling = ThreadPoolExecutor(1, "settling") if realtime else None
        self._settled: deque[Future[TickResult]] = deque()
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(self._options.threads)
        if self._deployment.door is not None:
            self._open_door(self._deployment.door)

    def _open_door(self, options: DoorOptions) -> None:
        """Let outside agents take part; end with an error, and without Ray, where the door cannot be opened."""
        try:
            self._coordinator.open_door(RayDoor(options, self._coordinator.facts, self._allowed))
        except UserError:
            self.close()
            raise

    def _require_room(self) -> None:
        """End with an error, and without Ray, where not even one actor of each kind has room."""
        demands = [Demand("agents", 1, self._deployment.gpus_per_actor), node_demand(self._deployment, self._options)]
        try:
            require_room(machines(), demands)
        except UserError:
            if self._owns_ray:
                stop_ray()
            raise

    def run(self, ticks: Iterable[int]) -> Iterator[TickResult]:
        """Return the results of the ticks, in order; agents encode the next ticks while the fusion nodes fuse this one.

        A tick with planned faults is run alone, so that they hit what is computed for this tick and for no other.
        """
        self._nodes.wait_until_ready()
        work = _Work(deque(), deque())
        for tick in self._coordinator.due(ticks, lambda tick: bool(self._deployment.faults_at(tick))):
            alone = bool(self._deployment.faults_at(tick))
            if alone:
                yield from self._finish_work(work, 0, 0)
            work.encoding.append(self._encode(tick))
            yield from self._finish_work(work, *((0, 0) if alone else (self._encode_ahead, self._fuse_ahead)))
        yield from self._finish_work(work, 0, 0)
        while self._settled:
            yield self._settled.popleft().result()

    def _finish_work(self, work: _Work, encode_ahead: int, fuse_ahead: int) -> Iterator[TickResult]:
        """Fuse and finish ticks until no more than so many are being encoded and fused; return the results of those finished."""
        while len(work.encoding) > encode_ahead or len(work.fusing) > fuse_ahead:
            if len(work.encoding) > encode_ahead:
                work.fusing.append(self._fuse(work.encoding.popleft()))
            if len(work.fusing) > fuse_ahead:
                yield from self._finish(work.fusing.popleft())

    def _encode(self, tick: int) -> _Encoding:
        plan = self._coordinator.plan(tick)
        self._post_unfinished()
        self._agents.assign(plan)
        if plan.number == 0 and self._options.realtime:
            plan = self._make_ready(plan)
        missed = self._inject_faults(plan)
        jobs, missing = self._agents.begin(plan)
        return _Encoding(plan, jobs, missing, [*self._agents.take_faults(), *missed])

    def _make_ready(self, plan: TickPlan) -> TickPlan:
        """Let agents and fusion nodes run once before the clock starts: towns are built, networks and files are loaded then.

        Returns:
            The plan of the first tick, which begins now.
        """
        _log.info("making agents and fusion node ready")
        steps = self._agents.warm(plan)
        senders = [(step.report.agent_id, plan.tick) for step in steps]
        self._nodes.warm(plan.request(plan.outline.world_SE3_ego), senders, [step.payload for step in steps])
        self._coordinator.settle_elsewhere(plan.tick)
        return self._coordinator.start_clock(plan)

    def _inject_faults(self, plan: TickPlan) -> list[Fault]:
        """Break the actors that the deployment plans to break before a tick; return the planned faults that hit nothing."""
        missed: list[Fault] = []
        for fault in self._deployment.faults_at(plan.tick):
            process = self._agents.process_of(fault.who) if fault.node is None else self._nodes.process(fault.node)
            if process is None or process.given_up:
                missed.append(Fault("planned fault missed", fault.who, self._what_there_is(fault, plan, process is None)))
            else:
                # The time of a fusion node's fault is always 0: it is away for no simulated time.
                process.break_down(fault.kind == "hang", plan.outline.timestamp_ns if fault.node is None else 0)
                self._post_unfinished()
        return missed

    def _what_there_is(self, fault: PlannedFault, plan: TickPlan, absent: bool) -> str:
        """Say why a planned fault hit nothing: its target is not there, or was given up."""
        if not absent:
            return "it has been given up"
        if fault.node is None:
            return f"not in tick {plan.tick}; there are {', '.join(plan.agent_types)}"
        return f"fusion nodes are counted from 0, and there are {self._nodes.count} (without run.region_m one)"

    def _post_unfinished(self) -> None:
        """Send the messages that were finished after their deadline, and give up on jobs that have hung."""
        unfinished, pacer = [], self._coordinator.pacer
        for job in self._unfinished:
            waited_s = monotonic() - job.began_s
            if len(ray.wait(job.reports, num_returns=len(job.reports), timeout=0)[0]) == len(job.reports):
                job.host.unfinished = None
                elapsed_ms = pacer.data_ms(waited_s) if pacer else 0.0
                for agent_id, step in zip(job.agent_ids, self._agents.steps(job, elapsed_ms), strict=True):
                    self._coordinator.post_late(job.plan, agent_id, step)
            elif waited_s > self._deployment.hang_s:
                for agent_id, missing in zip(job.agent_ids, self._agents.give_up_on(job), strict=True):
                    self._coordinator.post_late(job.plan, agent_id, missing)
            else:
                unfinished.append(job)
        self._unfinished = unfinished

    def _fuse(self, encoding: _Encoding) -> _Fusing:
        plan, steps = encoding.plan, dict[str, AgentStep[Any] | Missing](encoding.missing)
        elapsed_ms = self._done_in_time(plan, encoding.jobs)
        for job, elapsed in zip(encoding.jobs, elapsed_ms, strict=True):
            steps.update(zip(job.agent_ids, self._steps(job, elapsed), strict=True))
        delivery = self._coordinator.deliver(plan, [steps[agent_id] for agent_id in plan.agent_types])
        asked = self._nodes.ask(delivery.tasks)
        # What the fusion nodes note while they are asked belongs to this tick: the tick before is not finished yet.
        done_jobs = [job for job, done in zip(encoding.jobs, elapsed_ms, strict=True) if done is not None]
        asides = [job.asides for job in done_jobs if job.asides is not None]
        faults = [*encoding.faults, *self._agents.take_faults(), *self._nodes.take_faults()]
        return _Fusing(plan, delivery, asked, asides, faults)

    def _done_in_time(self, plan: TickPlan, jobs: list[AgentJob]) -> list[float | None]:
        """Wait for all jobs of a tick at once; return how long after the beginning of the tick each was done, in milliseconds.

        By the wall clock a job has None if it is done neither by the deadline nor when the ego's own job is. In simulated time
        computing takes no time, and a job has None if it hangs.
        """
        if not jobs:
            return []
        calls = [job.done for job in jobs]
        pacer = self._coordinator.pacer
        if pacer is None:
            done = set(ray.wait(calls, num_returns=len(calls), timeout=self._deployment.hang_s)[0])
            return [0.0 if call in done else None for call in calls]
        began_s = min(job.began_s for job in jobs)
        needed = next((job.done for job in jobs if plan.own in job.agent_ids), None)
        until_s = began_s + pacer.wall_s(self._options.deadline_ms)
        times_s = done_times(calls, until_s, needed, max(until_s, began_s + min(OWN_MAP_S, self._deployment.hang_s)))
        return [None if time_s is None else pacer.data_ms(time_s - began_s) for time_s in times_s]

    def _steps(self, job: AgentJob, elapsed_ms: float | None) -> list[AgentStep[Any] | Missing]:
        """Return the steps of a job.

        The agents of a job that is not done are missing in this tick. By the wall clock the job goes on; in simulated time its
        actor has hung, and is started again.
        """
        if elapsed_ms is not None:
            return self._agents.steps(job, elapsed_ms)
        if not self._options.realtime:
            return [*self._agents.give_up_on(job)]
        job.host.unfinished = job
        self._unfinished.append(job)
        return [Missing(UNFINISHED, late=True)] * len(job.agent_ids)

    def _finish(self, fusing: _Fusing) -> Iterator[TickResult]:
        """Return the result of a tick; by the wall clock those results that a thread has made meanwhile.

        Labels of agents that are late are read from the source, which takes longer than a tick may.
        """
        outcomes, faults = self._nodes.outcomes(fusing.asked), [*fusing.faults, *self._nodes.take_faults()]
        if self._settling is None:
            yield self._settle(fusing, outcomes, faults)
            return
        self._settled.append(self._settling.submit(self._settle, fusing, outcomes, faults))
        while self._settled and (self._settled[0].done() or len(self._settled) > MOST_SETTLING):
            yield self._settled.popleft().result()

    def _settle(self, fusing: _Fusing, outcomes: list[FusionOutcome | None], faults: list[Fault]) -> TickResult:
        asides = self._agents.asides(fusing.asides)
        result = self._coordinator.settle(fusing.plan, fusing.delivery, outcomes, asides, faults)
        if self._metrics is not None:
            self._metrics.add(result)
        return result

    def close(self) -> None:
        """End all actors, and Ray if this runtime has started it."""
        torch.set_num_threads(self._threads_before)
        if self._settling is not None:
            self._settling.shutdown(cancel_futures=True)
        if not ray.is_initialized():
            return
        self._coordinator.close_door()
        self._agents.close()
        self._nodes.close()
        if self._owns_ray:
            stop_ray()

    def __enter__(self) -> RayRuntime:
        """Return the runtime."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the runtime."""
        self.close()
