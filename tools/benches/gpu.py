"""Everything about a GPU in one bench: does it compute what the CPU computes, and how fast is it in each number format?

It needs neither Ray nor Open3D nor spconv, and reads no data: its scenes are made of numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeVar

import torch
from torch import nn

from heal.agent_model import AgentConfig, AgentModel
from heal.agent_types import in_order
from heal.agents.local_runtime import LocalRuntime
from heal.agents.options import RunOptions
from heal.alliance import load_alliance
from heal.base_model import BaseConfig, BaseModel
from heal.config import load_config
from heal.detection.loss import LossConfig
from heal.fusion.interface import Fusion
from heal.grid import BevGrid
from heal.layers.inference import for_inference
from heal.storage.compressors import StoredCompressor
from heal.tools.benches.frame import GPU_CASES, Perceiver
from heal.tools.benches.gpu_checks import Checked, check_device
from heal.tools.benches.machine import BFLOAT16, Precision, set_float32_precision, synchronized
from heal.tools.benches.made_scenes import MadeScenes
from heal.tools.benches.measure import BenchRow, Timing, timed
from heal.tools.benches.setup import PAPER_TYPES, SEED, WIDE, BenchSetup, PaperScene, frames_of, poses_of
from heal.tools.benches.train import Case, our_step, paper_cases
from heal.tools.evaluation.compute import GPU_BATCH
from heal.tools.shared.paths import type_path

Network = TypeVar("Network", bound=nn.Module)
SCENES = MadeScenes(scenes=8, agents=5)
SMALL_SCENES = MadeScenes(scenes=2, agents=3, cars=6, half_m=12.0, beams=16, columns=240, image_px=(120, 160))
EVALUATIONS, WARM_UP = 2, 3


@dataclass
class MadeAlliance:
    """Networks as an alliance (`heal.agents.interfaces.AllianceLike`) that lies in no folder."""

    base: BaseModel
    agents: dict[str, AgentModel]
    base_hash: str = "0" * 64

    @property
    def trunk(self) -> Fusion:
        """The trunk of the base."""
        return self.base.fusion

    @property
    def grid(self) -> BevGrid:
        """The grid of the base."""
        return self.base.config.grid

    @property
    def compressors(self) -> dict[int, StoredCompressor]:
        """No compressors."""
        return {}

    @property
    def agent_names(self) -> tuple[str, ...]:
        """The names of the agent types."""
        return tuple(self.agents)

    def agent(self, name: str) -> AgentModel:
        """Return the network of one type."""
        return self.agents[name]

    def trust_of(self, name: str) -> float:
        """Return 1."""
        return 1.0

    def for_inference(self) -> MadeAlliance:
        """Return the same networks, made faster."""
        return MadeAlliance(for_inference(self.base), {name: for_inference(model) for name, model in self.agents.items()})


@dataclass(frozen=True)
class _Sizes:
    """Networks and scenes of one size.

    Attributes:
        scenes: for everything.
        networks: makes networks with a grid.
        cases: agents and grid of each frame that is timed, by name.
        trainings: the trainings whose steps are checked and timed.
    """

    scenes: MadeScenes
    networks: Callable[[BevGrid], MadeAlliance]
    cases: dict[str, tuple[tuple[str, ...], BevGrid]]
    trainings: tuple[Case, ...]


def bench_gpu(setup: BenchSetup) -> list[BenchRow]:
    """Run `heal bench gpu`: the largest difference to the CPU (`check/`), then frames, scenes and steps per second."""
    sizes = _small(setup) if setup.small else _paper()
    made, trained = sizes.networks(WIDE), load_alliance(setup.alliance).for_inference()
    checked = Checked(setup.device, made.agents, made.base, sizes.trainings, trained, sizes.scenes)
    rows = check_device(checked, setup.precisions)
    for precision in setup.precisions:
        set_float32_precision(precision)
        rows += [*_frames(setup, sizes, precision), *_scenes(setup, sizes, precision), *_steps(setup, sizes, precision)]
    return rows


def _paper() -> _Sizes:
    """Networks of the paper's size with random weights."""

    def networks(grid: BevGrid) -> MadeAlliance:
        torch.manual_seed(SEED)
        agents = {name: _frozen(AgentModel(load_config(AgentConfig, type_path(name)), grid)) for name in PAPER_TYPES}
        return MadeAlliance(_frozen(BaseModel(BaseConfig(grid=grid))), agents)

    trainings = tuple(replace(case, source=SCENES) for case in paper_cases())
    return _Sizes(SCENES, networks, dict(GPU_CASES), trainings)


def _small(setup: BenchSetup) -> _Sizes:
    """The networks of the alliance in a folder, for a trial of the bench itself."""
    alliance = load_alliance(setup.alliance)
    made = MadeAlliance(alliance.base, {name: alliance.agent(name) for name in alliance.agent_names})
    types, base = alliance.agent_names[:2], alliance.base.config
    loss = LossConfig(occupancy_weights=LossConfig().occupancy_weights[: len(base.pyramid.channels)])

    def small(case: Case) -> Case:
        agents = {types[0]: made.agent(types[0]).config}
        return replace(case, settings=replace(case.settings, base=base, agents=agents, loss=loss), source=SMALL_SCENES)

    cases = {"".join(types): (types, alliance.grid)}
    return _Sizes(SMALL_SCENES, lambda _: made, cases, tuple(map(small, paper_cases())))


def _frozen(model: Network) -> Network:
    return model.eval().requires_grad_(False)


def _frames(setup: BenchSetup, sizes: _Sizes, precision: Precision) -> Iterator[BenchRow]:
    """Time frames without messages, of all cases."""
    for name, (types, grid) in sizes.cases.items():
        made = sizes.networks(grid)
        frames = frames_of(sizes.scenes, types, made.agents)
        whole, forward = _frame(setup, PaperScene(types, frames, poses_of(frames), made.base, made.agents), precision)
        yield _rate(f"gpu/frame-{name}", whole, precision, "frames/s", "sensor data in memory to boxes")
        yield _rate(f"gpu/forward-{name}", forward, precision, "frames/s", "encoder inputs to the output of the heads")


def _frame(setup: BenchSetup, scene: PaperScene, precision: Precision) -> tuple[Timing, ...]:
    """Time one case: from sensor data to boxes, and from encoder inputs to the output of the heads."""
    ours = Perceiver.of(scene, setup.device)
    with torch.no_grad(), setup.autocast(precision):
        inputs = ours.prepare(scene.frames)
        return timed(
            synchronized(setup.device, lambda: ours.boxes(scene.frames)),
            synchronized(setup.device, lambda: ours.head(inputs, scene.agent_SE3_ego)),
            repeats=setup.repeats,
            warm_up=WARM_UP,
        )


def _scenes(setup: BenchSetup, sizes: _Sizes, precision: Precision) -> Iterator[BenchRow]:
    """Time an evaluation with its messages, one scene at a time and several; the scenes are in memory."""
    types, grid = list(sizes.cases.values())[-1]
    made, ticks = sizes.networks(grid).for_inference(), range(len(sizes.scenes))
    options = RunOptions(correct_poses="off", precision=precision.name, threads=torch.get_num_threads())
    for batch in (1, GPU_BATCH):
        with LocalRuntime(made, sizes.scenes, in_order(types), options=options, device=setup.device, batch=batch) as runtime:
            [timing] = timed(partial(_run_all, runtime, ticks), repeats=EVALUATIONS)
        each = Timing(timing.seconds / len(ticks), timing.spread)
        yield _rate(f"gpu/evaluate-batch{batch}", each, precision, "scenes/s", f"{len(types)} agents, through messages")


def _run_all(runtime: LocalRuntime, ticks: range) -> None:
    for _ in runtime.run(ticks):
        pass


def _steps(setup: BenchSetup, sizes: _Sizes, precision: Precision) -> Iterator[BenchRow]:
    """Time the steps of both training stages."""
    number_format: Literal["float32", "bfloat16"] = "bfloat16" if precision is BFLOAT16 else "float32"
    for case in sizes.trainings:
        training = replace(case.settings.training, precision=number_format)
        own = replace(case, settings=replace(case.settings, training=training), device=str(setup.device))
        [timing] = timed(our_step(own, *own.prepared()), repeats=setup.repeats, warm_up=WARM_UP)
        yield _rate(f"gpu/{case.name.replace('/', '-')}", timing, precision, "steps/s")


def _rate(name: str, timing: Timing, precision: Precision, unit: str, note: str = "") -> BenchRow:
    """Make the row of a rate, the inverse of a time."""
    row = BenchRow.of(name, timing, note)
    return replace(row, seconds=None, value=1 / timing.seconds, unit=unit, dtype=precision.name)
