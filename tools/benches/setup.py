"""The options of a bench, and its input: networks of the paper's size and a scene of the built-in town or of a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from heal.agent_model import AgentModel
from heal.base_model import BaseConfig, BaseModel
from heal.datasets.open import open_dataset
from heal.datasets.town import PRESETS, TownSource
from heal.grid import BevGrid
from heal.se3 import relative_SE3
from heal.tools.benches.flop_formulas import FAST_LAYERS
from heal.tools.benches.machine import BFLOAT16, Precision, precisions_of
from heal.tools.shared.setting_files import read_agent_type
from heal.types import AgentFrame, SceneSource

WIDE = BevGrid((-102.4, -51.2, -3.0, 102.4, 51.2, 1.0), 0.8)
SQUARE = BevGrid((-102.4, -102.4, -3.0, 102.4, 102.4, 1.0), 0.8)
PAPER_TYPES = ("m1", "m2", "m3", "m4")
SEED = 3
CPU = torch.device("cpu")
# A plain form takes seconds, so that two rounds are enough.
PLAIN_REPEATS = 2


@dataclass(frozen=True)
class BenchSetup:
    """The options of all benches.

    Attributes:
        alliance: folder of trained networks, for the benches `runtime`, `scale` and `gpu`.
        data: folder of DAIR-V2X-C; None leaves out the rows that read it.
        scenes: data set folder in OPV2V's layout, whose first test scene is measured; None selects a scene of the built-in town.
        device: device of the networks.
        repeats: number of rounds that are measured.
        plain: also measure the plain form of each stage.
        small: whether `gpu` takes the networks of `alliance` and small scenes.
    """

    alliance: Path
    data: Path | None = None
    scenes: Path | None = None
    device: torch.device = CPU
    repeats: int = 7
    plain: bool = True
    small: bool = False

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The precisions in which the networks are measured on the device."""
        return precisions_of(self.device)

    @property
    def measures_plain(self) -> bool:
        """Whether the plain forms are measured: they are requested, and the device is the CPU."""
        return self.plain and self.device == CPU

    def autocast(self, precision: Precision) -> AbstractContextManager[object]:
        """Return a context in which dense layers compute in bfloat16 if the precision is BFLOAT16."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=precision is BFLOAT16)


@dataclass(frozen=True)
class PaperScene:
    """One scene with M agents, and the networks of these agents with random weights.

    Attributes:
        types: agent type of each of the M agents, the ego first.
        frames: sensor data of each agent, in the same order.
        agent_SE3_ego: (M, 4, 4) float64, maps coordinates of the ego's frame into each agent's frame.
        base: base network.
        agents: network of each agent type.
    """

    types: tuple[str, ...]
    frames: tuple[AgentFrame, ...]
    agent_SE3_ego: Tensor
    base: BaseModel
    agents: dict[str, AgentModel]

    @property
    def coverage(self) -> list[tuple[float, float] | None]:
        """Per agent, the grid's lengths in x and y over those of the encoder's own range; None if the encoder covers the grid."""
        return [self.agents[name].coverage for name in self.types]


def paper_scene(setup: BenchSetup, types: Sequence[str], grid: BevGrid) -> PaperScene:
    """Make a scene and networks of the paper's size.

    Args:
        setup: options, of which `scenes` selects the scene.
        types: agent type of each agent, the ego first.
        grid: grid of the shared feature maps.
    """
    torch.manual_seed(SEED)
    agents = {name: AgentModel(read_agent_type(name), grid).eval().requires_grad_(False) for name in types}
    base = BaseModel(BaseConfig(grid=grid)).eval().requires_grad_(False)
    source = bench_town(len(types)) if setup.scenes is None else open_dataset(setup.scenes, "test")
    frames = frames_of(source, types, agents)
    return PaperScene(tuple(types), frames, poses_of(frames), base, agents)


def frames_of(source: SceneSource, types: Sequence[str], agents: Mapping[str, AgentModel]) -> tuple[AgentFrame, ...]:
    """Read the sensor data of one agent for each entry of `types` from the first scene of a source.

    Args:
        source: scenes. If the first scene has fewer agents than `types` has entries, its agents are used several times.
        types: agent type of each agent, the ego first.
        agents: network of each agent type. It selects the sensors that are read.
    """
    ids = source.outline(0).agent_ids
    return tuple(source.agent_frame(0, ids[i % len(ids)], agents[name].sensor) for i, name in enumerate(types))


@cache
def bench_town(agents: int) -> TownSource:
    """Make a built-in town with dense traffic and a number of vehicles that are agents. Equal calls share one town."""
    return TownSource(replace(PRESETS["dense"], vehicles=agents, roadside=0), SEED, ticks=2)


def poses_of(frames: Sequence[AgentFrame]) -> Tensor:
    """Return (M, 4, 4) float64 transforms from the first agent's frame into each agent's frame, from the measured poses."""
    first = frames[0].world_SE3_agent_measured
    return torch.from_numpy(np.stack([relative_SE3(frame.world_SE3_agent_measured, first) for frame in frames]))


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use so many threads in here: one, as in a run where several agents share the cores, or more."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def count_flops(call: Callable[[], object]) -> float:
    """Count the floating-point operations of the dense layers in a call; a multiplication and an addition count as two."""
    with FlopCounterMode(display=False, custom_mapping=FAST_LAYERS) as counter:
        call()
    return float(counter.get_total_flops())
