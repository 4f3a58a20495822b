"""What a training step costs in time and memory, against the plain form of the same step with the same weights and scene."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from heal.agent_model import AgentConfig
from heal.agents.process import keep_freed_memory
from heal.agents.replica import Replica
from heal.anchors import make_anchors
from heal.collab import CollabModel
from heal.config import load_config
from heal.datasets.town import TownSource
from heal.tools.bench_row import BenchRow, timed
from heal.tools.bench_setup import BenchSetup, flops_of
from heal.tools.naive import naive
from heal.tools.paths import type_path
from heal.tools.train_config import TrainConfig, TrainingConfig
from heal.tools.train_data import TrainingBatch, TrainingSteps
from heal.tools.train_loop import Learner, StepTaker, make_optimizer, set_learning, training_loss
from heal.tools.training import make_model
from heal.types import SceneSource

# A step at the paper's size takes seconds: its median stands after few.
REPEATS = 5
SOURCE = TownSource("demo", 3, 2)
STATUS = Path("/proc/self/status")
RESET_PEAK = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Case:
    """A training whose first step is measured.

    Attributes:
        name: of its row.
        settings: of the training.
        source: of the scenes.
        device: where it learns.
    """

    name: str
    settings: TrainConfig
    source: SceneSource
    device: str = "cpu"

    def prepared(self) -> tuple[CollabModel, TrainingBatch]:
        """Fresh networks, and the batch of the first step."""
        model = make_model(self.settings, None)
        set_learning(model, self.settings.training)
        return model, TrainingSteps(self.source, model, self.settings)[0]


Step: TypeAlias = Callable[[], float]
StepKind: TypeAlias = Callable[[Case, CollabModel, TrainingBatch], Step | None]


def paper_cases() -> tuple[Case, ...]:
    """Both stages at the paper's size, float32, with Adam: two agents of one scene; one agent for a base that stays as it is."""
    training = TrainingConfig(batch_scenes=1, max_agents=2, random_agents=False, workers=0)
    alone = replace(training, max_agents=1, random_ego=True, frozen_base=True)
    m1 = load_config(AgentConfig, type_path("m1"))
    settings = TrainConfig(agents={"m1": m1}, training=training)
    return Case("train/stage1", settings, SOURCE), Case("train/stage2", replace(settings, training=alone), SOURCE)


def bench_train(setup: BenchSetup) -> list[BenchRow]:
    """The rows of `heal bench train`; on a GPU in bfloat16 too, and without the plain form."""
    if setup.device.type == "cpu":
        return [row for case in paper_cases() for row in bench_case(case, setup.plain)]
    rows = []
    precisions: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
    for case, precision in itertools.product(paper_cases(), precisions):
        training = replace(case.settings.training, precision=precision)
        there = replace(case, settings=replace(case.settings, training=training), device=str(setup.device))
        [timing] = timed(our_step(there, *there.prepared()), repeats=setup.repeats, warm_up=3)
        words = f"{1 / timing.seconds:.1f} steps/s"
        rows.append(replace(BenchRow.of(case.name, timing, words), dtype=precision))
    return rows


def bench_case(case: Case, plain: bool = True, repeats: int = REPEATS) -> list[BenchRow]:
    """Time, and where the machine tells it memory, of one training's step; without the plain form no ratios."""
    kinds = (our_step, naive_step) if plain else (our_step,)
    with ExitStack() as started:
        workers = [started.enter_context(_Worker(case, kind)) for kind in kinds]
        memory = [worker.first_step_bytes() for worker in workers]
        own, *others = timed(*(worker.step for worker in workers if worker.works), repeats=repeats)
        flops = workers[0].flops()
    speedup = others[0].seconds / own.seconds if others else None
    row = BenchRow(case.name, own.seconds, flops, None, speedup, torch.get_num_threads(), spread=own.spread)
    return [row, *_memory_rows(case.name, *memory)]


def _memory_rows(name: str, ours: int | None, plain: int | None = None) -> list[BenchRow]:
    if ours is None or plain is None:
        return []
    note = f"{ours / 1e9:.2f} GB of the plain step's {plain / 1e9:.2f} GB"
    return [BenchRow(f"{name}-memory", value=ours / plain, threads=torch.get_num_threads(), note=note)]


def our_step(case: Case, model: CollabModel, batch: TrainingBatch) -> Step:
    """A step as `heal train` takes it; it returns the loss, and so waits for it."""
    taker = StepTaker.of(model, case.settings, Replica(device=case.device))
    there = batch.to(taker.device)
    return lambda: float(taker.take(there, case.settings.training.learning_rate).total.detach())


def naive_step(case: Case, model: CollabModel, batch: TrainingBatch) -> Step | None:
    """The plain form of the same step, on a model of its own; None where the plain form is not there."""
    plain, settings = naive("training"), case.settings
    if plain is None:
        return None
    optimizer = make_optimizer(model, settings.training)
    anchors = make_anchors(settings.base.grid, settings.base.anchors)

    def step() -> float:
        truths = (batch.targets, batch.agent_targets, settings.loss, settings.training.single_weight)
        loss: torch.Tensor = plain.training_loss(model, batch.inputs, *truths, anchors)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(loss.detach())

    return step


def counted_flops(case: Case, model: CollabModel, batch: TrainingBatch) -> float:
    """Floating-point operations of the dense layers, forwards and backwards, as direct convolutions would do them."""
    anchors = make_anchors(case.settings.base.grid, case.settings.base.anchors)
    return flops_of(lambda: training_loss(Learner(model), batch, case.settings, anchors).total.backward())  # type: ignore[no-untyped-call]


class _Worker:
    """A process of its own that takes one kind of step: two kinds in one process would share freed memory and the allocator's ways.

    Ours keeps freed memory, as `heal train` does; the plain one is a process as Python starts it.
    """

    def __init__(self, case: Case, kind: StepKind) -> None:
        """Start it and have it prepare the step."""
        self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        self.works: bool = self._pool.submit(_begin, case, kind, torch.get_num_threads()).result()

    def __enter__(self) -> _Worker:
        """Nothing more."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._pool.shutdown()

    def first_step_bytes(self) -> int | None:
        """Resident bytes that the first step takes at its peak; None without a step, or where the machine does not tell."""
        return self._pool.submit(_step_bytes).result() if self.works and STATUS.exists() else None

    def step(self) -> float:
        """Take a step; returns the loss."""
        return self._pool.submit(_step).result()

    def flops(self) -> float:
        """As `counted_flops`."""
        return self._pool.submit(_flops).result()


# What a worker's process is told first.
_prepared: dict[str, Any] = {}


def _begin(case: Case, kind: StepKind, threads: int) -> bool:
    torch.set_num_threads(threads)
    if kind is our_step:
        keep_freed_memory()
    model, batch = case.prepared()
    _prepared.update(case=case, step=kind(case, model, batch))
    return _prepared["step"] is not None


def _step() -> float:
    return float(_prepared["step"]())


def _flops() -> float:
    case: Case = _prepared["case"]
    return counted_flops(case, *case.prepared())


def _step_bytes() -> int:
    if RESET_PEAK.exists():
        RESET_PEAK.write_text("5", encoding="ascii")
    before = _resident_bytes("VmRSS")
    _step()
    return _resident_bytes("VmHWM") - before


def _resident_bytes(which: str) -> int:
    """A number of /proc/self/status, which Linux has: VmRSS is resident now, VmHWM was at most."""
    lines = STATUS.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{which}:"))
