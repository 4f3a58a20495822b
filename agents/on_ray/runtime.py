"""A run on Ray: every agent and every fusion node is an actor.

Messages go from actor to actor through Ray's object store. The driver learns their sizes and times, not their content.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Any

import ray
import torch

from heal.agent_types import TypesOf
from heal.agents.deployment import Deployment
from heal.agents.interfaces import AllianceLike
from heal.agents.network.network import Network, PerfectNetwork
from heal.agents.on_ray.agent_pool import UNFINISHED, AgentJob, AgentPool
from heal.agents.on_ray.cluster import start_ray
from heal.agents.on_ray.node_pool import NodeJobs, NodePool
from heal.agents.on_ray.prometheus import RunMetrics
from heal.agents.options import RunOptions
from heal.agents.records import Fault, TickResult
from heal.agents.tick import AgentStep, Delivery, Missing, TickCoordinator, TickPlan
from heal.types import SceneSource


@dataclass
class _Encoding:
    """A tick that is being encoded: its jobs, the agents that are missing, and the faults so far."""

    plan: TickPlan
    jobs: list[AgentJob]
    missing: dict[str, Missing]
    faults: list[Fault]


@dataclass
class _Fusing:
    """A tick that is being fused: its messages, what the fusion nodes were asked, and the faults so far."""

    plan: TickPlan
    delivery: Delivery[Any]
    asked: NodeJobs
    faults: list[Fault]


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
        self._owns_ray = start_ray(self._deployment.address, self._deployment.metrics_port)
        self._coordinator: TickCoordinator[Any] = TickCoordinator(
            alliance, source, types_of, network or PerfectNetwork(), self._options
        )
        self._agents = AgentPool(self._coordinator, self._deployment)
        self._nodes = NodePool(alliance, self._options, self._deployment)
        self._metrics = RunMetrics() if self._deployment.collects_metrics else None
        realtime, pipeline = self._options.realtime, self._deployment.pipeline
        self._encode_ahead = 0 if realtime else pipeline
        # The fusion nodes may be one tick ahead of the driver, unless one thing is to happen after the other.
        self._fuse_ahead = 1 if realtime or pipeline else 0
        self._unfinished: list[AgentJob] = []
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(self._options.threads)

    def run(self, ticks: Iterable[int]) -> Iterator[TickResult]:
        """Return the results of the ticks, in order; agents encode the next ticks while the fusion nodes fuse this one."""
        self._nodes.wait_until_ready()
        encoding: deque[_Encoding] = deque()
        fusing: deque[_Fusing] = deque()
        for tick in ticks:
            encoding.append(self._encode(tick))
            if len(encoding) > self._encode_ahead:
                fusing.append(self._fuse(encoding.popleft()))
            if len(fusing) > self._fuse_ahead:
                yield self._finish(fusing.popleft())
        while encoding or fusing:
            if encoding:
                fusing.append(self._fuse(encoding.popleft()))
            if len(fusing) > self._fuse_ahead or not encoding:
                yield self._finish(fusing.popleft())

    def _encode(self, tick: int) -> _Encoding:
        plan = self._coordinator.plan(tick)
        self._inject_faults(tick)
        self._post_unfinished()
        jobs, missing = self._agents.begin(plan)
        return _Encoding(plan, jobs, missing, self._agents.take_faults())

    def _inject_faults(self, tick: int) -> None:
        """Break the actors that the deployment plans to break before a tick."""
        for fault in self._deployment.faults_at(tick):
            actor = self._agents.actor_of(fault.who) if fault.node is None else self._nodes.actor(fault.node)
            if fault.kind == "crash":
                ray.kill(actor)
            else:
                actor.hang.remote()

    def _post_unfinished(self) -> None:
        """Send the messages that were finished after their deadline, and give up on jobs that have hung."""
        unfinished = []
        for job in self._unfinished:
            waited_s = monotonic() - job.began_s
            if len(ray.wait(job.reports, num_returns=len(job.reports), timeout=0)[0]) == len(job.reports):
                job.host.unfinished = None
                for step in self._agents.steps(job, waited_s * 1e3):
                    if isinstance(step, AgentStep):
                        self._coordinator.post_late(job.plan, step)
            elif waited_s > self._deployment.hang_s:
                self._agents.give_up_on(job)
            else:
                unfinished.append(job)
        self._unfinished = unfinished

    def _fuse(self, encoding: _Encoding) -> _Fusing:
        plan, steps = encoding.plan, dict[str, AgentStep[Any] | Missing](encoding.missing)
        elapsed_ms = self._done_in_time(encoding.jobs)
        for job, elapsed in zip(encoding.jobs, elapsed_ms, strict=True):
            steps.update(zip(job.agent_ids, self._steps(job, elapsed), strict=True))
        delivery = self._coordinator.deliver(plan, [steps[agent_id] for agent_id in plan.agent_types])
        faults = [*encoding.faults, *self._agents.take_faults()]
        return _Fusing(plan, delivery, self._nodes.ask(delivery.tasks), faults)

    def _done_in_time(self, jobs: list[AgentJob]) -> list[float | None]:
        """Return how long after the beginning of its tick each job was done, in milliseconds.

        By the wall clock a job that is not done by the deadline has None. In simulated time computing takes no time; whether a job
        is done at all shows when its results are fetched.
        """
        if not self._options.realtime:
            return [0.0] * len(jobs)
        elapsed: list[float | None] = []
        for job in jobs:
            left_s = max(0.0, job.began_s + self._options.deadline_ms / 1e3 - monotonic())
            done, _ = ray.wait(job.reports, num_returns=len(job.reports), timeout=left_s)
            elapsed.append((monotonic() - job.began_s) * 1e3 if len(done) == len(job.reports) else None)
        return elapsed

    def _steps(self, job: AgentJob, elapsed_ms: float | None) -> list[AgentStep[Any] | Missing]:
        """Return the steps of a job; a job that is not done in time goes on, and its agents are missing in this tick."""
        if elapsed_ms is not None:
            return self._agents.steps(job, elapsed_ms)
        job.host.unfinished = job
        self._unfinished.append(job)
        return [Missing(UNFINISHED, late=True)] * len(job.agent_ids)

    def _finish(self, fusing: _Fusing) -> TickResult:
        outcomes = self._nodes.outcomes(fusing.asked)
        result = self._coordinator.settle(fusing.plan, fusing.delivery, outcomes, [*fusing.faults, *self._nodes.take_faults()])
        if self._metrics is not None:
            self._metrics.add(result)
        return result

    def close(self) -> None:
        """End all actors, and Ray if this runtime has started it."""
        torch.set_num_threads(self._threads_before)
        if not ray.is_initialized():
            return
        self._agents.close()
        self._nodes.close()
        if self._owns_ray:
            ray.shutdown()

    def __enter__(self) -> RayRuntime:
        """Return the runtime."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the runtime."""
        self.close()
