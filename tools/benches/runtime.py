"""The costs of a run on Ray: throughput against processes without Ray, latency of a message, and the fusion node's time."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median

import torch

from heal.agent_types import same_type
from heal.agents.agent import AgentHost, AgentRequest, AgentSetup
from heal.agents.deployment import Deployment
from heal.agents.fusion.knowledge import NodeKnowledge
from heal.agents.fusion.node import FusionNode
from heal.agents.network.network import PerfectNetwork
from heal.agents.options import PoseCorrection, RunOptions
from heal.agents.process import changed_environment, end_with_parent, keep_freed_memory, usable_cores
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
# Communication range in which all agents of a town hear each other.
EVERYWHERE_M = 1e9
THREADS_VARIABLE = "OMP_NUM_THREADS"
DEPLOYMENT = Deployment(device="cpu", pipeline=2)


def bench_runtime(alliance: Path) -> list[BenchRow]:
    """Run `heal bench runtime` with the alliance in a folder."""
    opened = load_alliance(alliance).for_inference()
    ray, processes = [], []
    for _ in range(REPEATS):
        processes.append(processes_rate_hz(alliance))
        ray.append(ray_rate_hz(opened))
    share = median(one / other for one, other in zip(ray, processes, strict=True))
    handovers, overheads = zip(*overheads_s(opened), strict=True)
    few_ms, many_ms = (median(fusion_times_ms(opened, agents)) for agents in (4, 16))
    unaligned_few_ms, unaligned_many_ms = (median(fusion_times_ms(opened, agents, correct_poses="off")) for agents in (4, 16))
    growth, unaligned_growth = many_ms / few_ms, unaligned_many_ms / unaligned_few_ms
    return [
        BenchRow("runtime/processes", value=median(processes), unit="ticks/s", note=f"{usable_cores()} processes, {AGENTS} agents"),
        BenchRow("runtime/ray", value=median(ray), unit="ticks/s", note=f"{share:.3f} of the processes' throughput"),
        BenchRow("runtime/share", value=share, note="throughput of Ray over that of the processes"),
        BenchRow("runtime/handover", median(handovers), note="from a complete message to its reading at the fusion node"),
        BenchRow("runtime/overhead", median(overheads), note="one agent: time of a tick minus the times of its stages"),
        BenchRow("runtime/fuse4", few_ms / 1e3, note="fusion node, 4 agents, split: pyramid"),
        BenchRow("runtime/fuse16", many_ms / 1e3, note=f"16 agents, {growth:.2f} times as long"),
        BenchRow("runtime/fuse4-unaligned", unaligned_few_ms / 1e3, note="4 agents, without pose correction"),
        BenchRow("runtime/fuse16-unaligned", unaligned_many_ms / 1e3, note=f"16 agents, {unaligned_growth:.2f} times as long"),
    ]


def town(agents: int, ticks: int, lidars: tuple[str, ...] = PRESETS["demo"].lidars) -> TownSource:
    """Make a town of the demo's preset, in which one of several agents is a roadside unit.

    Args:
        agents: number of agents.
        ticks: number of scenes.
        lidars: LiDAR models that the vehicles' LiDARs are drawn from; see `TownPreset`.
    """
    roadside = int(agents > 1)
    preset = replace(PRESETS["demo"], vehicles=agents - roadside, roadside=roadside, lidars=lidars)
    return TownSource(preset, seed=SEED, ticks=ticks, split="test")


@cache
def labelled_town(agents: int, ticks: int) -> LabelledTown:
    """Make a town with labels once for all runs, because casting the rays for the labels takes longer than a run."""
    return LabelledTown(town(agents, ticks))


class LabelledTown:
    """A town whose outlines and labels are computed before the run, so that their time does not count as the runtime's."""

    def __init__(self, source: TownSource) -> None:
        """Compute the outlines and labels of all scenes."""
        self._source = source
        self._outlines = [source.outline(tick) for tick in range(len(source))]
        self._objects = [self._labels(outline, tick) for tick, outline in enumerate(self._outlines)]

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self._source)

    def outline(self, index: int) -> SceneOutline:
        """Return the agents, poses and time of a scene."""
        return self._outlines[index]

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """Return the sensor data of an agent in a scene, sensed anew in every call."""
        return self._source.agent_frame(index, agent_id, choice)

    def scene_objects(self, index: int) -> ObjectLabels:
        """Return the objects of a scene that at least one agent has labelled."""
        return self._objects[index]

    def _labels(self, outline: SceneOutline, tick: int) -> ObjectLabels:
        """Compute the union of all agents' labels in a scene."""
        return ObjectLabels.union([self._source.labels(tick, agent_id) for agent_id in outline.agent_ids])


def ray_rate_hz(alliance: Alliance) -> float:
    """Measure the ticks per second of a run on Ray."""
    source, options = labelled_town(AGENTS, WARM_TICKS + TICKS), RunOptions(comm_range_m=EVERYWHERE_M)
    results, ends = ray_run(alliance, source, options, DEPLOYMENT)
    return (len(results) - WARM_TICKS) / (ends[-1] - ends[WARM_TICKS - 1])


def ray_run(
    alliance: Alliance, source: SceneSource, options: RunOptions, deployment: Deployment
) -> tuple[list[TickResult], list[float]]:
    """Run all scenes of a source on Ray, over a network without delay or loss.

    Args:
        alliance: trained networks. All agents are of the base's type.
        source: scenes of the run.
        options: options of the run.
        deployment: distribution of the run over processes.

    Returns:
        The results, and for each result the time of its arrival in seconds of `time.perf_counter`.
    """
    results, ends, ticks = [], [], len(source)
    types_of = same_type(base_type(alliance))
    with open_runtime("ray", alliance, source, types_of, PerfectNetwork(), options, deployment) as runtime:
        for result in runtime.run(range(ticks)):
            results.append(result)
            ends.append(time.perf_counter())
    return results, ends


@dataclass(frozen=True)
class TickWork:
    """The work of a tick without a runtime, in one process.

    Attributes:
        hosts: one host for each agent. As in actors, every host has its own copy of the town.
        node: fusion node.
        outlines: agents and poses of every tick.
    """

    hosts: tuple[AgentHost, ...]
    node: FusionNode
    outlines: tuple[SceneOutline, ...]

    @staticmethod
    def of(alliance: Alliance, agents: int, ticks: int) -> TickWork:
        """Prepare the work in a town with a number of agents and ticks."""
        options = RunOptions(comm_range_m=EVERYWHERE_M)
        setups = [AgentSetup.of(alliance, base_type(alliance), town(agents, ticks), options) for _ in range(agents)]
        node, source = FusionNode(NodeKnowledge.of(alliance, options)), town(agents, ticks)
        return TickWork(tuple(map(AgentHost, setups)), node, tuple(source.outline(tick) for tick in range(ticks)))

    def do(self, tick: int) -> FusionOutcome:
        """Sense, encode and fuse one tick."""
        outline = self.outlines[tick]
        arrivals = [
            Arrival(agent_id, host.step([AgentRequest(tick, agent_id, FLOAT32)])[0][0], tick)
            for agent_id, host in zip(outline.agent_ids, self.hosts, strict=True)
        ]
        request = FusionRequest(tick, outline.timestamp_ns, "", outline.ego_id, outline.world_SE3_ego)
        return self.node.step(request, arrivals)


def processes_rate_hz(alliance: Path) -> float:
    """Measure the ticks per second of processes without Ray. Each core runs one process with its own part of the ticks."""
    cores, context = usable_cores(), multiprocessing.get_context("spawn")
    barrier = context.Barrier(cores + 1)
    processes = [context.Process(target=_run_ticks, args=(alliance, core, cores, barrier)) for core in range(cores)]
    # As Ray does for its actors: libraries with threads of their own, such as the ray caster, then use one thread in a process.
    with changed_environment({THREADS_VARIABLE: "1"}):
        for process in processes:
            process.start()
    barrier.wait()
    began = time.perf_counter()
    for process in processes:
        process.join()
    return TICKS / (time.perf_counter() - began)


def _run_ticks(alliance: Path, core: int, cores: int, barrier: Barrier) -> None:
    """Warm up, wait at the barrier for the other processes, then compute every `cores`-th tick."""
    end_with_parent()
    torch.set_num_threads(1)
    keep_freed_memory()
    work = TickWork.of(load_alliance(alliance).for_inference(), AGENTS, WARM_TICKS + TICKS)
    for tick in range(WARM_TICKS // cores):
        work.do(tick)
    barrier.wait()
    for tick in range(WARM_TICKS + core, WARM_TICKS + TICKS, cores):
        work.do(tick)


def overheads_s(alliance: Alliance) -> list[tuple[float, float]]:
    """Run one agent on Ray without pipelining.

    Returns:
        Two durations for each tick: from the complete message to the start of its reading at the fusion node, and the time of the
        tick minus the times of its stages.
    """
    results, ends = ray_run(alliance, labelled_town(1, WARM_TICKS + TICKS), RunOptions(), Deployment(device="cpu", pipeline=0))
    return [_overhead_s(result, ends[i] - ends[i - 1]) for i, result in enumerate(results) if i >= WARM_TICKS]


def _overhead_s(result: TickResult, wall_s: float) -> tuple[float, float]:
    """Compute the two durations of `overheads_s` for a tick that took `wall_s`."""
    agent, node = result.messages[0].latency, result.latency
    assert agent is not None and node is not None, "no process fails in a bench"
    stages_ms = agent.sense_ms + agent.encode_ms + agent.pack_ms + node.unpack_ms + node.fuse_ms + node.decode_ms
    return node.began_s - agent.packed_s, wall_s - stages_ms / 1e3


def fusion_times_ms(alliance: Alliance, agents: int, correct_poses: PoseCorrection = "peaks") -> Sequence[float]:
    """Time a fusion node under `split: pyramid`, in which the agents compute the trunk, with one torch thread.

    Args:
        alliance: trained networks.
        agents: number of agents that send a message.
        correct_poses: how the agents' measured poses are corrected before the fusion.

    Returns:
        Duration of each measured step in milliseconds.
    """
    torch.set_num_threads(1)
    keep_freed_memory()
    options = RunOptions(split="pyramid", comm_range_m=EVERYWHERE_M, correct_poses=correct_poses)
    source, times = town(agents, 2), []
    outline, host = source.outline(0), AgentHost(AgentSetup.of(alliance, base_type(alliance), source, options))
    arrivals = [Arrival(name, host.step([AgentRequest(0, name, FLOAT32)])[0][0], 0) for name in outline.agent_ids]
    node = FusionNode(NodeKnowledge.of(alliance, options))
    for tick in range(WARM_TICKS + TICKS // 2):
        # The sequence differs in every request, so that the node drops the maps of the request before.
        request = FusionRequest(0, outline.timestamp_ns, str(tick), outline.ego_id, outline.world_SE3_ego)
        began = time.perf_counter()
        node.step(request, arrivals)
        times.append((time.perf_counter() - began) * 1e3)
    return times[WARM_TICKS:]
