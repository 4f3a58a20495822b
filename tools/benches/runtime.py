"""What the runtime costs: against the same work in plain processes, per message, and at the fusion node per agent."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median

import torch

from heal.agents.agent import AgentHost, AgentKit, Errand
from heal.agents.agent_types import everyone
from heal.agents.deployment import Deployment
from heal.agents.fusion.node import FusionNode
from heal.agents.network.network import PerfectNetwork
from heal.agents.options import RunOptions
from heal.agents.process import keep_freed_memory
from heal.agents.records import Arrival, FusionOutcome, FusionRequest, TickResult
from heal.agents.runtime import open_runtime
from heal.alliance import Alliance, load_alliance
from heal.datasets.town import PRESETS, TownSource
from heal.message.codec import FLOAT32
from heal.tools.benches.measure import BenchRow
from heal.tools.shared.type_argument import base_type
from heal.types import AgentFrame, ObjectLabels, SceneOutline, SceneSource, SensorChoice

AGENTS, WARM_TICKS, TICKS, REPEATS = 4, 8, 60, 3
SEED = 3
EVERYWHERE_M = 1e9
THREADS_VARIABLE = "OMP_NUM_THREADS"
DEPLOYMENT = Deployment(pipeline=2)


def bench_runtime(alliance: Path) -> list[BenchRow]:
    """The rows of `heal bench runtime`."""
    opened = load_alliance(alliance).for_inference()
    ray, plain = [], []
    for _ in range(REPEATS):
        plain.append(plain_rate_hz(alliance))
        ray.append(ray_rate_hz(opened))
    share = median(one / other for one, other in zip(ray, plain, strict=True))
    handovers, overheads = zip(*overheads_s(opened), strict=True)
    few_ms, many_ms = (median(fusing_ms(opened, agents)) for agents in (4, 16))
    plain_few_ms, plain_many_ms = (median(fusing_ms(opened, agents, align=False)) for agents in (4, 16))
    return [
        BenchRow("runtime/processes", value=median(plain), unit="ticks/s", note=f"{_cores()} plain processes, {AGENTS} agents"),
        BenchRow("runtime/ray", value=median(ray), unit="ticks/s", note=f"{share:.3f} of that"),
        BenchRow("runtime/share", value=share, note="of what the cores give"),
        BenchRow("runtime/handover", median(handovers), note="from a message's last byte to the fusion node beginning to read it"),
        BenchRow("runtime/overhead", median(overheads), note="one agent: of a tick all that is no stage's time"),
        BenchRow("runtime/fuse4", few_ms / 1e3, note="fusion node, 4 agents, split: pyramid"),
        BenchRow("runtime/fuse16", many_ms / 1e3, note=f"{many_ms / few_ms:.2f} times that, 16 agents"),
        BenchRow("runtime/fuse4-unaligned", plain_few_ms / 1e3, note="the same without correcting poses, 4 agents"),
        BenchRow("runtime/fuse16-unaligned", plain_many_ms / 1e3, note=f"{plain_many_ms / plain_few_ms:.2f} times that, 16 agents"),
    ]


def town(agents: int, ticks: int, lidars: tuple[str, ...] = PRESETS["demo"].lidars) -> TownSource:
    """A demo town with so many agents, one of them at the roadside if there are several."""
    roadside = int(agents > 1)
    preset = replace(PRESETS["demo"], vehicles=agents - roadside, roadside=roadside, lidars=lidars)
    return TownSource(preset, seed=SEED, ticks=ticks, split="test")


@cache
def known_town(agents: int, ticks: int) -> KnownTown:
    """A demo town whose rays have been cast for the labels; that takes longer than a run, so once for all runs."""
    return KnownTown(town(agents, ticks))


class KnownTown:
    """A town whose outlines and labels are there before the run: they are the world's and the evaluation's, not the runtime's."""

    def __init__(self, source: TownSource) -> None:
        """Ask for all of them."""
        self._source = source
        self._outlines = [source.outline(tick) for tick in range(len(source))]
        self._objects = [self._labels(outline, tick) for tick, outline in enumerate(self._outlines)]

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self._source)

    def outline(self, index: int) -> SceneOutline:
        """Who takes part."""
        return self._outlines[index]

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """What an agent senses."""
        return self._source.agent_frame(index, agent_id, choice)

    def scene_objects(self, index: int) -> ObjectLabels:
        """What all agents have labelled."""
        return self._objects[index]

    def _labels(self, outline: SceneOutline, tick: int) -> ObjectLabels:
        return ObjectLabels.union([self._source.labels(tick, agent_id) for agent_id in outline.agent_ids])


def ray_rate_hz(alliance: Alliance) -> float:
    """Ticks per second of a run on Ray."""
    source, options = known_town(AGENTS, WARM_TICKS + TICKS), RunOptions(comm_range_m=EVERYWHERE_M)
    results, ends = ray_run(alliance, source, options, DEPLOYMENT)
    return (len(results) - WARM_TICKS) / (ends[-1] - ends[WARM_TICKS - 1])


def ray_run(
    alliance: Alliance, source: SceneSource, options: RunOptions, deployment: Deployment
) -> tuple[list[TickResult], list[float]]:
    """A run on Ray: its results, and when each was there."""
    results, ends, ticks = [], [], len(source)
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
    outlines: tuple[SceneOutline, ...]

    @staticmethod
    def of(alliance: Alliance, agents: int, ticks: int) -> PlainWork:
        """For a town with so many agents."""
        options = RunOptions(comm_range_m=EVERYWHERE_M)
        kits = [AgentKit.of(alliance, base_type(alliance), town(agents, ticks), options) for _ in range(agents)]
        node, source = FusionNode(alliance.base, alliance.base_hash, options), town(agents, ticks)
        return PlainWork(tuple(map(AgentHost, kits)), node, tuple(source.outline(tick) for tick in range(ticks)))

    def do(self, tick: int) -> FusionOutcome:
        """One tick."""
        outline = self.outlines[tick]
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
    work = PlainWork.of(load_alliance(alliance).for_inference(), AGENTS, WARM_TICKS + TICKS)
    for tick in range(WARM_TICKS // cores):
        work.do(tick)
    barrier.wait()
    for tick in range(WARM_TICKS + core, WARM_TICKS + TICKS, cores):
        work.do(tick)


def overheads_s(alliance: Alliance) -> list[tuple[float, float]]:
    """Of every tick of one agent alone, without pipelining: how long its message was on the way, and what no stage has taken."""
    results, ends = ray_run(alliance, known_town(1, WARM_TICKS + TICKS), RunOptions(), Deployment(pipeline=0))
    return [_overhead_s(result, ends[i] - ends[i - 1]) for i, result in enumerate(results) if i >= WARM_TICKS]


def _overhead_s(result: TickResult, wall_s: float) -> tuple[float, float]:
    agent, node = result.messages[0].latency, result.latency
    assert agent is not None and node is not None, "nothing breaks in a bench"
    stages_ms = agent.sense_ms + agent.encode_ms + agent.pack_ms + node.unpack_ms + node.fuse_ms + node.decode_ms
    return node.began_s - agent.packed_s, wall_s - stages_ms / 1e3


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
