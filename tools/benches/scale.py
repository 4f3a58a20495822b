"""A long run with many agents on one machine: the ticks in which all messages were used, and the memory growth of each process.

And the driver's own work in a tick of up to 500 agents (`heal.tools.benches.driver`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from heal.agent_types import same_type
from heal.agents.deployment import Deployment
from heal.agents.network.network import PerfectNetwork
from heal.agents.options import RunOptions
from heal.agents.runtime import open_runtime
from heal.alliance import load_alliance
from heal.message.codec import Codec
from heal.tools.benches.driver import CROWDS, bench_driver
from heal.tools.benches.measure import BenchRow
from heal.tools.benches.runtime import EVERYWHERE_M, town
from heal.tools.shared.type_argument import base_type
from heal.tools.terminal.progress import track
from heal.types import AgentFrame, SceneOutline, SensorChoice

AGENTS, TICKS, WARM_TICKS = 64, 300, 60
# Small maps and clouds: a quarter of the demo's range, and LiDARs with 16 lines.
RANGE_M = (-25.6, -25.6, -3.0, 25.6, 25.6, 1.0)
OPTIONS = RunOptions(comm_range_m=EVERYWHERE_M, split="pyramid", codec=Codec.parse("int8,zstd"))
LIDARS = ("coarse16",)
LOOP, TICK_NS = 4, 100_000_000
# Some processes of Ray use only a few dozen megabytes and may grow by one megabyte without a leak. Their growth is divided by this.
SMALL_BYTES = 1e8
DEPLOYMENT = Deployment(device="cpu", agents_per_actor=8)


class LoopedTown:
    """A town that repeats its first scenes. Every process senses them only once, so that ray casting takes little of the run."""

    def __init__(self, agents: int, ticks: int) -> None:
        """Make a town with a number of agents and ticks."""
        self._town, self._ticks = town(agents, LOOP, LIDARS), ticks
        self._frames: dict[tuple[int, str, SensorChoice | None], AgentFrame] = {}

    def __len__(self) -> int:
        """Return the number of scenes."""
        return self._ticks

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for pickling, without the cached sensor data."""
        return {**self.__dict__, "_frames": {}}

    def outline(self, index: int) -> SceneOutline:
        """Return the agents and poses of a scene. Its timestamp increases from tick to tick."""
        return replace(self._town.outline(index % LOOP), timestamp_ns=index * TICK_NS)

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """Return the sensor data of an agent in a scene, from the cache if the process has sensed it before."""
        key = index % LOOP, agent_id, choice
        if key not in self._frames:
            self._frames[key] = self._town.agent_frame(*key)
        return replace(self._frames[key], timestamp_ns=index * TICK_NS)

    def scene_objects(self, index: int) -> None:
        """Return None: the objects of a scene are the union of the agents' labels."""


def bench_scale(
    alliance: Path, agents: int = AGENTS, ticks: int = TICKS, warm_ticks: int = WARM_TICKS, crowds: Sequence[int] = CROWDS
) -> list[BenchRow]:
    """Run `heal bench scale`.

    Args:
        alliance: folder of trained networks.
        agents: number of agents.
        ticks: number of ticks.
        warm_ticks: tick after which the growth of memory is measured.
        crowds: numbers of agents for which the driver's own work is measured.
    """
    driver_rows = bench_driver(load_alliance(alliance), crowds)
    opened = load_alliance(alliance, RANGE_M).for_inference()
    warm: dict[int, int] = {}
    last: dict[int, int] = {}
    names: dict[int, str] = {}
    complete, began = 0, time.perf_counter()
    source, types_of = LoopedTown(agents, ticks), same_type(base_type(opened))
    with open_runtime("ray", opened, source, types_of, PerfectNetwork(), OPTIONS, DEPLOYMENT) as runtime:
        for tick, result in enumerate(track(runtime.run(range(ticks)), f"{agents} agents", ticks, Console(), transient=True)):
            complete += result.tick == tick and result.counts.used == agents - 1
            if result.tick == warm_ticks:
                warm = private_bytes()
            if result.tick == ticks - 1:
                last, names = private_bytes(), process_names()
    growth = {pid: (size - warm[pid]) / max(warm[pid], SMALL_BYTES) for pid, size in last.items() if pid in warm}
    most = max(growth, key=lambda pid: growth[pid])
    grown = f"{(last[most] - warm[most]) / 1e6:.1f} MB from tick {warm_ticks} to the last tick"
    return [
        BenchRow("scale/ticks", value=complete, unit="ticks", note=f"of {ticks}, with all messages of {agents} agents used"),
        BenchRow("scale/rate", value=ticks / (time.perf_counter() - began), unit="ticks/s", note="including the start of Ray"),
        BenchRow("scale/processes", value=len(growth), unit="processes", note=f"{sum(last.values()) / 1e9:.1f} GB in total"),
        BenchRow("scale/growth", value=growth[most], note=f"the process that grew most, {names[most]}, by {grown}"),
        *driver_rows,
    ]


def private_bytes() -> dict[int, int]:
    """Return the unshared memory of this process and of all its descendants, in bytes by process number.

    Memory shared with other processes is left out. It is Ray's object store, of which each process counts the pages it has touched.
    """
    return {process.pid: process.memory_full_info().uss for process in _process_tree()}


def process_names() -> dict[int, str]:
    """Return the names of this process and of all its descendants, by process number."""
    return {process.pid: process.name() for process in _process_tree()}


def _process_tree() -> list[psutil.Process]:
    """Return this process and all its descendants that are running."""
    own = psutil.Process()
    return [process for process in (own, *own.children(recursive=True)) if process.is_running()]
