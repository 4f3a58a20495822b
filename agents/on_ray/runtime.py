"""Every agent and the fusion node as a Ray actor of its own.

Messages go from actor to actor through Ray's object store; the driver learns their sizes and times, not their content.
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
from heal.agents.on_ray.agent_pool import UNFINISHED, ActorPool, Job
from heal.agents.on_ray.cluster import start_ray
from heal.agents.on_ray.node_pool import AskedAll, NodeSeats
from heal.agents.on_ray.prometheus import RunMetrics
from heal.agents.options import RunOptions
from heal.agents.records import Fault, TickResult
from heal.agents.tick import Delivery, Missing, Stepped, TickBook, TickPlan
from heal.types import SceneSource


@dataclass
class _Encoding:
    """A tick that the agents are at, those who take no part in it, and who came back for it."""

    plan: TickPlan
    jobs: list[Job]
    missing: dict[str, Missing]
    faults: list[Fault]


@dataclass
class _Fusing:
    """A tick that the fusion node is at."""

    plan: TickPlan
    delivery: Delivery[Any]
    asked: AskedAll
    faults: list[Fault]


class RayRuntime:
    """A run on Ray; see `heal.agents.runtime.Runtime`. Uses a Ray that is already there, else starts one on this machine."""

    def __init__(
        self,
        alliance: AllianceLike,
        source: SceneSource,
        types_of: TypesOf,
        network: Network | None = None,
        options: RunOptions | None = None,
        deployment: Deployment | None = None,
    ) -> None:
        """Start Ray and the fusion node; arguments as in `heal.agents.runtime.open_runtime`."""
        self._options, self._deployment = options or RunOptions(), deployment or Deployment()
        self._owns_ray = start_ray(self._deployment.address, self._deployment.metrics_port)
        self._book: TickBook[Any] = TickBook(alliance, source, types_of, network or PerfectNetwork(), self._options)
        self._pool = ActorPool(self._book, self._deployment)
        self._nodes = NodeSeats(alliance, self._options, self._deployment)
        self._metrics = RunMetrics() if self._deployment.collects_metrics else None
        realtime, pipeline = self._options.realtime, self._deployment.pipeline
        self._encode_ahead = 0 if realtime else pipeline
        # The fusion node may be one tick ahead of the driver, unless everything is to happen in turn.
        self._fuse_ahead = 1 if realtime or pipeline else 0
        self._unfinished: list[Job] = []
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(self._options.threads)

    def run(self, ticks: Iterable[int]) -> Iterator[TickResult]:
        """The results of the ticks, in order; agents encode the next ones while the node fuses this one."""
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
        plan = self._book.plan(tick)
        self._break(tick)
        self._post_unfinished()
        jobs, missing = self._pool.begin(plan)
        return _Encoding(plan, jobs, missing, self._pool.take_faults())

    def _break(self, tick: int) -> None:
        """Break what is planned to."""
        for fault in self._deployment.faults_at(tick):
            actor = self._pool.crew_of(fault.who).actor if fault.node is None else self._nodes[fault.node].actor
            if fault.kind == "crash":
                ray.kill(actor)
            else:
                actor.hang.remote()

    def _post_unfinished(self) -> None:
        """Send what agents have finished since the deadline that they missed; give up on those that have hung."""
        still = []
        for job in self._unfinished:
            waited_s = monotonic() - job.began_s
            if len(ray.wait(job.reports, num_returns=len(job.reports), timeout=0)[0]) == len(job.reports):
                job.crew.unfinished = None
                for step in self._pool.results(job, waited_s * 1e3):
                    if isinstance(step, Stepped):
                        self._book.post_late(job.plan, step)
            elif waited_s > self._deployment.hang_s:
                self._pool.broken(job, hung=True)
            else:
                still.append(job)
        self._unfinished = still

    def _fuse(self, encoding: _Encoding) -> _Fusing:
        plan, steps = encoding.plan, dict[str, Stepped[Any] | Missing](encoding.missing)
        elapsed_ms = self._done_in_time(encoding.jobs)
        for job, elapsed in zip(encoding.jobs, elapsed_ms, strict=True):
            steps.update(zip(job.agent_ids, self._steps(job, elapsed), strict=True))
        delivery = self._book.deliver(plan, [steps[agent_id] for agent_id in plan.agent_types])
        faults = [*encoding.faults, *self._pool.take_faults()]
        return _Fusing(plan, delivery, self._nodes.ask(delivery.tasks), faults)

    def _done_in_time(self, jobs: list[Job]) -> list[float | None]:
        """For each job how long after its tick's beginning it was done, in ms, None if that is not by the wall clock's deadline.

        In simulated time computing takes none; whether a job is done at all shows when its results are asked for.
        """
        if not self._options.realtime:
            return [0.0] * len(jobs)
        elapsed: list[float | None] = []
        for job in jobs:
            left_s = max(0.0, job.began_s + self._options.deadline_ms / 1e3 - monotonic())
            done, _ = ray.wait(job.reports, num_returns=len(job.reports), timeout=left_s)
            elapsed.append((monotonic() - job.began_s) * 1e3 if len(done) == len(job.reports) else None)
        return elapsed

    def _steps(self, job: Job, elapsed_ms: float | None) -> list[Stepped[Any] | Missing]:
        """What became of a job; one that is not done in time goes on."""
        if elapsed_ms is not None:
            return self._pool.results(job, elapsed_ms)
        job.crew.unfinished = job
        self._unfinished.append(job)
        return [Missing(UNFINISHED, late=True)] * len(job.agent_ids)

    def _finish(self, fusing: _Fusing) -> TickResult:
        outcomes = self._nodes.answers(fusing.asked)
        result = self._book.settle(fusing.plan, fusing.delivery, outcomes, [*fusing.faults, *self._nodes.take_faults()])
        if self._metrics is not None:
            self._metrics.add(result)
        return result

    def close(self) -> None:
        """End all actors, and Ray if it was started here."""
        torch.set_num_threads(self._threads_before)
        if not ray.is_initialized():
            return
        self._pool.close()
        self._nodes.close()
        if self._owns_ray:
            ray.shutdown()

    def __enter__(self) -> RayRuntime:
        """The runtime itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close it."""
        self.close()
