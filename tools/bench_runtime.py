"""What the runtime costs: against the same work in plain processes, per message, and at the fusion node per agent."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median

import torch

from heal.agents.agent import AgentHost, AgentKit, Errand
from heal.agents.deployment import Deployment
from heal.agents.fusion_node import FusionNode
from heal.agents.network import PerfectNetwork
from heal.agents.process import keep_freed_memory
from heal.agents.records import Arrival, FusionOutcome, FusionRequest, RunOptions, TickResult
from heal.agents.runtime import open_runtime
from heal.agents.types_of import everyone
from heal.alliance import Alliance, load_alliance
from heal.codec import FLOAT32
from heal.datasets.town import PRESETS, TownSource
from heal.tools.assigning import base_type
from heal.tools.bench_row import BenchRow

AGENTS, WARM_TICKS, TICKS, REPEATS = 4, 8, 60, 3
SEED = 3
EVERYWHERE_M = 1e9
THREADS_VARIABLE = "OMP_NUM_THREADS"
DEPLOYMENT = Deployment(pipeline=2)


def bench_runtime(alliance: Path) -> list[BenchRow]:
    """The rows of `heal bench runtime`."""
    opened = load_alliance(alliance)
    ray, plain = [], []
    for _ in range(REPEATS):
        plain.append(plain_rate_hz(alliance))
        ray.append(ray_rate_hz(opened))
    share = median(one / other for one, other in zip(ray, plain, strict=True))
    overhead_ms = median(overheads_ms(opened))
    few_ms, many_ms = (median(fusing_ms(opened, agents)) for agents in (4, 16))
    plain_few_ms, plain_many_ms = (median(fusing_ms(opened, agents, align=False)) for agents in (4, 16))
    return [
        BenchRow("runtime/processes", median(plain), "ticks/s", f"{_cores()} plain processes, {AGENTS} agents"),
        BenchRow("runtime/ray", median(ray), "ticks/s", f"{share:.3f} of that"),
        BenchRow("runtime/share", share, "", "of what the cores give"),
        BenchRow("runtime/overhead", overhead_ms, "ms per message", "wall-clock time that is no agent's and no node's"),
        BenchRow("runtime/fuse4", few_ms, "ms", "fusion node, 4 agents, split: pyramid"),
        BenchRow("runtime/fuse16", many_ms, "ms", f"{many_ms / few_ms:.2f} times that, 16 agents"),
        BenchRow("runtime/fuse4-unaligned", plain_few_ms, "ms", "the same without correcting poses, 4 agents"),
        BenchRow("runtime/fuse16-unaligned", plain_many_ms, "ms", f"{plain_many_ms / plain_few_ms:.2f} times that, 16 agents"),
    ]


def town(agents: int, ticks: int) -> TownSource:
    """A demo town with so many agents, one of them at the roadside if there are several."""
    roadside = int(agents > 1)
    return TownSource(replace(PRESETS["demo"], vehicles=agents - roadside, roadside=roadside), seed=SEED, ticks=ticks, split="test")


def ray_rate_hz(alliance: Alliance) -> float:
    """Ticks per second of a run on Ray."""
    results, ends = ray_run(alliance, RunOptions(comm_range_m=EVERYWHERE_M), DEPLOYMENT, AGENTS, WARM_TICKS + TICKS)
    return (len(results) - WARM_TICKS) / (ends[-1] - ends[WARM_TICKS - 1])


def ray_run(
    alliance: Alliance, options: RunOptions, deployment: Deployment, agents: int, ticks: int
) -> tuple[list[TickResult], list[float]]:
    """A run on Ray: its results, and when each was there."""
    source, results, ends = town(agents, ticks), [], []
    types_of = everyone(base_type(alliance))
    with open_runtime("ray", alliance, source, types_of, PerfectNetwork(), options, deployment) as runtime:
        for result in runtime.run(range(ticks)):
            results.append(result)
            ends.append(time.perf_counter())
    return results, ends


@dataclass(frozen=True)
class PlainWork:
    """The work of a tick without a runtime: every agent with a copy of the town of its own, as in actors, and a fusion node."""

    hosts: tuple[AgentHost, ...]
    node: FusionNode
    source: TownSource

    @staticmethod
    def of(alliance: Alliance, agents: int, ticks: int) -> PlainWork:
        """For a town with so many agents."""
        options = RunOptions(comm_range_m=EVERYWHERE_M)
        kits = [AgentKit.of(alliance, base_type(alliance), town(agents, ticks), options) for _ in range(agents)]
        return PlainWork(tuple(map(AgentHost, kits)), FusionNode(alliance.base, alliance.base_hash, options), town(agents, ticks))

    def do(self, tick: int) -> FusionOutcome:
        """One tick."""
        outline = self.source.outline(tick)
        arrivals = [
            Arrival(agent_id, host.step(tick, [Errand(agent_id, FLOAT32)])[0][0], tick)
            for agent_id, host in zip(outline.agent_ids, self.hosts, strict=True)
        ]
        request = FusionRequest(tick, outline.timestamp_ns, "", outline.ego_id, outline.world_SE3_ego)
        return self.node.step(request, arrivals)


def plain_rate_hz(alliance: Path) -> float:
    """Ticks per second of plain processes, one on each core, that divide the ticks among themselves and share nothing."""
    cores, context = _cores(), multiprocessing.get_context("spawn")
    barrier = context.Barrier(cores + 1)
    processes = [context.Process(target=_work, args=(alliance, core, cores, barrier)) for core in range(cores)]
    with one_thread_in_children():
        for process in processes:
            process.start()
    barrier.wait()
    began = time.perf_counter()
    for process in processes:
        process.join()
    return TICKS / (time.perf_counter() - began)


@contextmanager
def one_thread_in_children() -> Iterator[None]:
    """What Ray does for its actors: libraries that bring threads of their own, such as the one that casts rays, keep to one."""
    before = os.environ.get(THREADS_VARIABLE)
    os.environ[THREADS_VARIABLE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[THREADS_VARIABLE]
        else:
            os.environ[THREADS_VARIABLE] = before


def _work(alliance: Path, core: int, cores: int, barrier: Barrier) -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    work = PlainWork.of(load_alliance(alliance), AGENTS, WARM_TICKS + TICKS)
    for tick in range(WARM_TICKS // cores):
        work.do(tick)
    barrier.wait()
    for tick in range(WARM_TICKS + core, WARM_TICKS + TICKS, cores):
        work.do(tick)


def overheads_ms(alliance: Alliance) -> list[float]:
    """Of every tick of one agent alone, without pipelining: what is left of its time when all stages are taken off."""
    results, ends = ray_run(alliance, RunOptions(), Deployment(pipeline=0), 1, WARM_TICKS + TICKS)
    return [_overhead_ms(result, ends[i] - ends[i - 1]) for i, result in enumerate(results) if i >= WARM_TICKS]


def _overhead_ms(result: TickResult, wall_s: float) -> float:
    agent, node = result.messages[0].latency, result.latency
    assert agent is not None and node is not None, "nothing breaks in a bench"
    stages_ms = agent.sense_ms + agent.encode_ms + agent.pack_ms + node.unpack_ms + node.fuse_ms + node.decode_ms
    return wall_s * 1e3 - stages_ms


def fusing_ms(alliance: Alliance, agents: int, align: bool = True) -> Sequence[float]:
    """Times of the fusion node with so many agents whose messages have passed the trunk."""
    torch.set_num_threads(1)
    keep_freed_memory()
    options = RunOptions(split="pyramid", comm_range_m=EVERYWHERE_M, align=align)
    source, times = town(agents, 2), []
    outline, host = source.outline(0), AgentHost(AgentKit.of(alliance, base_type(alliance), source, options))
    arrivals = [Arrival(name, host.step(0, [Errand(name, FLOAT32)])[0][0], 0) for name in outline.agent_ids]
    node = FusionNode(alliance.base, alliance.base_hash, options)
    for tick in range(WARM_TICKS + TICKS // 2):
        # Another recording every time, so that nothing is held from the time before.
        request = FusionRequest(0, outline.timestamp_ns, str(tick), outline.ego_id, outline.world_SE3_ego)
        began = time.perf_counter()
        node.step(request, arrivals)
        times.append((time.perf_counter() - began) * 1e3)
    return times[WARM_TICKS:]


def _cores() -> int:
    return os.cpu_count() or 1
