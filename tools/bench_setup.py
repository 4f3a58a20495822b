"""What benches are told, and the networks and scenes that they measure: of the paper's size, in the built-in town."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from heal.agent_model import AgentConfig, AgentModel
from heal.base_model import BaseConfig, BaseModel
from heal.config import load_config
from heal.datasets.open import open_dataset
from heal.datasets.town import PRESETS, TownSource
from heal.grid import BevGrid
from heal.se3 import relative_SE3
from heal.tools.bench_machine import BFLOAT16, Precision, precisions_of
from heal.tools.naive import naive
from heal.tools.paths import type_path
from heal.types import AgentFrame, SceneSource

WIDE = BevGrid((-102.4, -51.2, -3.0, 102.4, 51.2, 1.0), 0.8)
SQUARE = BevGrid((-102.4, -102.4, -3.0, 102.4, 102.4, 1.0), 0.8)
PAPER_TYPES = ("m1", "m2", "m3", "m4")
SEED = 3
CPU = torch.device("cpu")
# Plain forms take seconds: a few rounds tell enough.
PLAIN_REPEATS = 2


@dataclass(frozen=True)
class BenchSetup:
    """What all benches are told.

    Attributes:
        alliance: folder of trained networks, for benches of runs.
        data: folder of DAIR-V2X-C to read from; None leaves its rows out.
        scenes: folder in the layout of OPV2V whose first test scene is perceived; None for a scene of the built-in town.
        device: where the networks compute.
        repeats: rounds that count.
        plain: measure the plain forms beside them.
    """

    alliance: Path
    data: Path | None = None
    scenes: Path | None = None
    device: torch.device = CPU
    repeats: int = 7
    plain: bool = True

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Those worth measuring on the device."""
        return precisions_of(self.device)

    def naive(self, name: str) -> ModuleType | None:
        """The plain form of a stage, a module of `tests/naive`; None where it is not to be measured, or not there."""
        return naive(name) if self.plain and self.device == CPU else None

    def autocast(self, precision: Precision) -> AbstractContextManager[object]:
        """Dense layers in half precision where that is wanted."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=precision is BFLOAT16)


@dataclass(frozen=True)
class PaperScene:
    """Agents of the paper's types around each other, and their networks with random weights.

    Attributes:
        types: of the agents, the ego first.
        frames: what they sense.
        agent_SE3_ego: (M, 4, 4) float64.
        base: the base.
        agents: network of each type.
    """

    types: tuple[str, ...]
    frames: tuple[AgentFrame, ...]
    agent_SE3_ego: Tensor
    base: BaseModel
    agents: dict[str, AgentModel]

    @property
    def coverage(self) -> list[tuple[float, float] | None]:
        """Of each agent, as the fusion takes it."""
        return [self.agents[name].coverage for name in self.types]


def paper_scene(setup: BenchSetup, types: Sequence[str], grid: BevGrid) -> PaperScene:
    """So many agents in one scene, at the paper's size."""
    torch.manual_seed(SEED)
    agents = {name: AgentModel(load_config(AgentConfig, type_path(name)), grid).eval().requires_grad_(False) for name in types}
    base = BaseModel(BaseConfig(grid=grid)).eval().requires_grad_(False)
    source = bench_town(len(types)) if setup.scenes is None else open_dataset(setup.scenes, "test")
    frames = frames_of(source, types, agents)
    return PaperScene(tuple(types), frames, poses_of(frames), base, agents)


def frames_of(source: SceneSource, types: Sequence[str], agents: Mapping[str, AgentModel]) -> tuple[AgentFrame, ...]:
    """What the first agents of a source's first scene sense; where it has fewer than wanted they stand in for each other."""
    ids = source.outline(0).agent_ids
    return tuple(source.agent_frame(0, ids[i % len(ids)], agents[name].sensor) for i, name in enumerate(types))


@cache
def bench_town(agents: int) -> TownSource:
    """A crowded town seen by so many agents."""
    return TownSource(replace(PRESETS["dense"], vehicles=agents, roadside=0), SEED, ticks=2)


def poses_of(frames: Sequence[AgentFrame]) -> Tensor:
    """(M, 4, 4) from the first one's frame into each one's own."""
    first = frames[0].world_SE3_agent_measured
    return torch.from_numpy(np.stack([relative_SE3(frame.world_SE3_agent_measured, first) for frame in frames]))


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch with one thread, as where agents share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def flops_of(call: Callable[[], object]) -> float:
    """Floating-point operations of the dense layers in a call, a multiplication and an addition counted as two."""
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())
