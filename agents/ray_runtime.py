"""Every agent and the fusion node as a Ray actor of its own.

Messages go from actor to actor through Ray's object store; the driver learns their sizes and times, not their content.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import ray
import torch

from heal.agents.agent import AgentHost, AgentKit
from heal.agents.fusion_node import FusionNode
from heal.agents.link import LinkFactory
from heal.agents.records import AgentReport, Arrival, FusionOutcome, FusionRequest, MessageRecord, RunOptions, TickResult
from heal.agents.tick import AllianceLike, TickBook, TickPlan
from heal.agents.types_of import TypesOf
from heal.base_model import BaseModel
from heal.message import Buffer
from heal.types import SceneSource, UInt8

OBJECT_STORE_BYTES = 512 * 2**20
# So little that any number of actors fits on one machine: they take turns on the cores, as threads of one program would.
ACTOR_CPUS = 0.01
# Ticks in flight: in simulated time the agents are one ahead of the fusion node, and the node is one ahead of the driver.
ENCODE_AHEAD, FUSE_AHEAD = 1, 1
DIED_ERRORS = (
    ray.exceptions.RayActorError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.ObjectLostError,
)


class AgentActor:
    """Hosts agents of one type in a process of its own."""

    def __init__(self, kit: AgentKit, threads: int) -> None:
        """Take the equipment, which Ray has fetched from the object store."""
        torch.set_num_threads(threads)
        self._host = AgentHost(kit)

    def ready(self) -> None:
        """Answers once the actor has been made."""

    def step(self, agent_id: str, tick: int) -> tuple[UInt8, AgentReport]:
        """One agent's tick; the message as an array, which Ray hands on without copying, unlike `bytes`."""
        message, report = self._host.step(agent_id, tick)
        return np.frombuffer(message, np.uint8), report


class NodeActor:
    """Hosts the fusion node."""

    def __init__(self, base: BaseModel, base_hash: str, options: RunOptions) -> None:
        """Take the base, which Ray has fetched from the object store."""
        torch.set_num_threads(options.threads)
        self._node = FusionNode(base, base_hash, options)

    def ready(self) -> None:
        """Answers once the actor has been made."""

    def step(self, request: FusionRequest, records: Sequence[MessageRecord], *messages: Buffer) -> FusionOutcome:
        """One tick; `records` say whose the messages are and when they came."""
        pairs = zip(records, messages, strict=True)
        return self._node.step(request, [Arrival(r.agent_id, message, r.arrival_ns or 0) for r, message in pairs])


@dataclass
class _Encoding:
    """A tick that the agents are at: for each of them the references to its message and its report."""

    plan: TickPlan
    messages: list[Any]
    reports: list[Any]


@dataclass
class _Fusing:
    """A tick that the fusion node is at."""

    plan: TickPlan
    reports: list[AgentReport | None]
    records: tuple[MessageRecord, ...]
    outcome: Any


class ActorPool:
    """Which actor serves which agent.

    An agent keeps its actor for as long as it is in the scenes. One that is no longer there leaves its actor to the next newcomer
    of its type, so a change of scenario makes no new processes. An agent whose actor has died stays dead for the rest of the run.
    """

    def __init__(self, book: TickBook) -> None:
        """Start with no actor."""
        self._book = book
        self._kits: dict[str, Any] = {}
        self._serving: dict[str, tuple[str, Any]] = {}
        self._idle: dict[str, list[Any]] = {}
        self.dead: set[str] = set()

    def actors_for(self, plan: TickPlan) -> list[Any]:
        """The actors of a tick's agents, in the plan's order; new ones have been found healthy."""
        for agent_id in self._serving.keys() - plan.agent_types.keys() - self.dead:
            agent_type, actor = self._serving.pop(agent_id)
            self._idle.setdefault(agent_type, []).append(actor)
        created = []
        for agent_id, agent_type in plan.agent_types.items():
            if agent_id not in self._serving:
                actor = self._reuse(agent_type) or self._create(agent_type)
                self._serving[agent_id] = (agent_type, actor)
                created.append(actor.ready.remote())
        ray.get(created)
        return [self._serving[agent_id][1] for agent_id in plan.agent_types]

    def kill(self, agent_id: str) -> None:
        """End the process that serves an agent, as a crash would."""
        ray.kill(self._serving[agent_id][1])

    def close(self) -> None:
        """End all actors."""
        for actor in [actor for _, actor in self._serving.values()] + [actor for idle in self._idle.values() for actor in idle]:
            ray.kill(actor)

    def _reuse(self, agent_type: str) -> Any | None:
        """An idle actor of a type that has not died meanwhile."""
        idle = self._idle.get(agent_type, [])
        while idle:
            actor = idle.pop()
            try:
                ray.get(actor.ready.remote())
            except DIED_ERRORS:
                continue
            return actor
        return None

    def _create(self, agent_type: str) -> Any:
        if agent_type not in self._kits:
            self._kits[agent_type] = ray.put(self._book.kit(agent_type))
        remote = ray.remote(num_cpus=ACTOR_CPUS)(AgentActor)
        return remote.remote(self._kits[agent_type], self._book.options.threads)


class RayRuntime:
    """A run on Ray; see `heal.agents.runtime.Runtime`. Uses a Ray that is already there, else starts one on this machine."""

    def __init__(
        self,
        alliance: AllianceLike,
        source: SceneSource,
        types_of: TypesOf,
        links: LinkFactory,
        options: RunOptions | None = None,
    ) -> None:
        """Start Ray and the fusion node; arguments as in `heal.agents.runtime.open_runtime`."""
        options = options or RunOptions()
        self._owns_ray = start_ray()
        self._book = TickBook(alliance, source, types_of, links, options)
        self._pool = ActorPool(self._book)
        node = ray.remote(num_cpus=ACTOR_CPUS)(NodeActor)
        self._node = node.remote(ray.put(alliance.base), alliance.base_hash, options)
        self._encode_ahead = 0 if options.realtime else ENCODE_AHEAD
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(options.threads)

    def run(self, ticks: Iterable[int]) -> Iterator[TickResult]:
        """The results of the ticks, in order; agents encode the next tick while the node fuses this one."""
        ray.get(self._node.ready.remote())
        encoding: deque[_Encoding] = deque()
        fusing: deque[_Fusing] = deque()
        for tick in ticks:
            encoding.append(self._encode(tick))
            if len(encoding) > self._encode_ahead:
                fusing.append(self._fuse(encoding.popleft()))
            if len(fusing) > FUSE_AHEAD:
                yield self._finish(fusing.popleft())
        while encoding or fusing:
            if encoding:
                fusing.append(self._fuse(encoding.popleft()))
            yield self._finish(fusing.popleft())

    def kill_agent(self, agent_id: str) -> None:
        """Let an agent's process crash, to see that the run goes on without it."""
        self._pool.kill(agent_id)

    def _encode(self, tick: int) -> _Encoding:
        plan = self._book.plan(tick)
        actors = self._pool.actors_for(plan)
        steps = [
            actor.step.options(num_returns=2).remote(agent_id, tick)
            for actor, agent_id in zip(actors, plan.agent_types, strict=True)
        ]
        return _Encoding(plan, [message for message, _ in steps], [report for _, report in steps])

    def _fuse(self, encoding: _Encoding) -> _Fusing:
        plan = encoding.plan
        reports = [self._report(agent_id, ref) for agent_id, ref in zip(plan.agent_types, encoding.reports, strict=True)]
        records = self._book.deliver(plan, reports)
        in_time = [pair for pair in zip(records, encoding.messages, strict=True) if pair[0].status == "used"]
        outcome = self._node.step.remote(plan.request, [record for record, _ in in_time], *[message for _, message in in_time])
        return _Fusing(plan, reports, records, outcome)

    def _report(self, agent_id: str, ref: Any) -> AgentReport | None:
        """What an agent reports; None if its actor has died. Its errors, such as a damaged file, are raised here."""
        try:
            report: AgentReport = ray.get(ref)
        except DIED_ERRORS:
            self._pool.dead.add(agent_id)
            return None
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        return report

    def _finish(self, fusing: _Fusing) -> TickResult:
        return self._book.settle(fusing.plan, fusing.reports, fusing.records, ray.get(fusing.outcome))

    def close(self) -> None:
        """End all actors, and Ray if it was started here."""
        torch.set_num_threads(self._threads_before)
        if not ray.is_initialized():
            return
        self._pool.close()
        ray.kill(self._node)
        if self._owns_ray:
            ray.shutdown()

    def __enter__(self) -> RayRuntime:
        """The runtime itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close it."""
        self.close()


def start_ray() -> bool:
    """Start a local Ray, quietly; False if one is running already."""
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=OBJECT_STORE_BYTES,
    )
    return True
