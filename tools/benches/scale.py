"""Many agents for a long time on one machine: every tick accounted for, and what the processes' memory does meanwhile."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from rich.progress import track

from heal.agents.agent_types import everyone
from heal.agents.deployment import Deployment
from heal.agents.network.network import PerfectNetwork
from heal.agents.options import RunOptions
from heal.agents.runtime import open_runtime
from heal.alliance import load_alliance
from heal.message.codec import Codec
from heal.tools.benches.measure import BenchRow
from heal.tools.benches.runtime import EVERYWHERE_M, town
from heal.tools.shared.type_argument import base_type
from heal.types import AgentFrame, SceneOutline, SensorChoice

AGENTS, TICKS, WARM_TICKS = 64, 300, 60
# A quarter of the demo's range and LiDARs of 16 lines: small maps and clouds, as small agents would have them.
RANGE_M = (-25.6, -25.6, -3.0, 25.6, 25.6, 1.0)
OPTIONS = RunOptions(comm_range_m=EVERYWHERE_M, split="pyramid", codec=Codec.parse("int8,zstd"))
LIDARS = ("coarse16",)
LOOP, TICK_NS = 4, 100_000_000
# Ray has several processes of a few dozen megabytes, of which one more is no leak: what they grow counts against this.
SMALL_BYTES = 1e8
DEPLOYMENT = Deployment(agents_per_actor=8)


class LoopedTown:
    """A town's first scenes over and over, sensed once by every process: what is watched is the run, not the casting of rays."""

    def __init__(self, agents: int, ticks: int) -> None:
        """So many agents and ticks."""
        self._town, self._ticks = town(agents, LOOP, LIDARS), ticks
        self._frames: dict[tuple[int, str, SensorChoice | None], AgentFrame] = {}

    def __len__(self) -> int:
        """Number of scenes."""
        return self._ticks

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what has been sensed."""
        return {**self.__dict__, "_frames": {}}

    def outline(self, index: int) -> SceneOutline:
        """Who takes part; time goes on."""
        return replace(self._town.outline(index % LOOP), timestamp_ns=index * TICK_NS)

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """What an agent senses."""
        key = index % LOOP, agent_id, choice
        if key not in self._frames:
            self._frames[key] = self._town.agent_frame(*key)
        return replace(self._frames[key], timestamp_ns=index * TICK_NS)

    def scene_objects(self, index: int) -> None:
        """None: they are the union of what the agents list."""


def bench_scale(alliance: Path, agents: int = AGENTS, ticks: int = TICKS, warm_ticks: int = WARM_TICKS) -> list[BenchRow]:
    """The rows of `heal bench scale`."""
    opened = load_alliance(alliance, RANGE_M).for_inference()
    warm: dict[int, int] = {}
    last: dict[int, int] = {}
    names: dict[int, str] = {}
    accounted, began = 0, time.perf_counter()
    source, types_of = LoopedTown(agents, ticks), everyone(base_type(opened))
    with open_runtime("ray", opened, source, types_of, PerfectNetwork(), OPTIONS, DEPLOYMENT) as runtime:
        for tick, result in enumerate(track(runtime.run(range(ticks)), f"{agents} agents", total=ticks, transient=True)):
            accounted += result.tick == tick and result.counts.used == agents - 1
            if result.tick == warm_ticks:
                warm = own_bytes()
            if result.tick == ticks - 1:
                last, names = own_bytes(), process_names()
    growth = {pid: (size - warm[pid]) / max(warm[pid], SMALL_BYTES) for pid, size in last.items() if pid in warm}
    most = max(growth, key=lambda pid: growth[pid])
    grown = f"{(last[most] - warm[most]) / 1e6:.1f} MB from tick {warm_ticks} to the last"
    return [
        BenchRow("scale/ticks", value=accounted, unit="ticks", note=f"of {ticks}, with all messages of {agents} agents used"),
        BenchRow("scale/rate", value=ticks / (time.perf_counter() - began), unit="ticks/s", note="start included"),
        BenchRow("scale/processes", value=len(growth), unit="processes", note=f"{sum(last.values()) / 1e9:.1f} GB in all"),
        BenchRow("scale/growth", value=growth[most], note=f"{names[most]}, by {grown}: the process that grew most"),
    ]


def own_bytes() -> dict[int, int]:
    """Memory that this process, and all that it has started, each have to themselves, by process number.

    Not what they share, which is the object store: it counts in each of them by as much of it as they have touched so far.
    """
    return {process.pid: process.memory_full_info().uss for process in _everybody()}


def process_names() -> dict[int, str]:
    """What they are called, by process number."""
    return {process.pid: process.name() for process in _everybody()}


def _everybody() -> list[psutil.Process]:
    own = psutil.Process()
    return [process for process in (own, *own.children(recursive=True)) if process.is_running()]
