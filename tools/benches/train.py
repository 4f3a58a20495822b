"""Time and memory of a training step, against the plain form of the same step with the same weights and scenes."""

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

from heal.agents.process import end_with_parent, keep_freed_memory
from heal.base_model import make_heads
from heal.collab_model import CollabModel
from heal.datasets.town import TownSource
from heal.detection.anchors import make_anchors
from heal.detection.targets import AnchorTargets
from heal.tools.benches.measure import BenchRow, timed
from heal.tools.benches.plain import training as plain_training
from heal.tools.benches.setup import BenchSetup, count_flops
from heal.tools.shared.setting_files import read_agent_type
from heal.tools.training.job import make_model
from heal.training.batches import TrainingBatch, TrainingSteps
from heal.training.config import ScheduleConfig, TrainingConfig
from heal.training.replica import Replica
from heal.training.step import Learner, StepTaker, make_optimizer, set_learning, training_loss
from heal.types import SceneSource

# A step at the paper's size takes seconds, so that few rounds are enough.
REPEATS = 5
SOURCE = TownSource("demo", 3, 2)
STATUS = Path("/proc/self/status")
RESET_PEAK = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Case:
    """A training whose first step is measured.

    Attributes:
        name: name of the row.
        settings: configuration of the training.
        source: scenes to train on.
        device: device of our form of the step, such as "cpu" or "cuda".
    """

    name: str
    settings: TrainingConfig
    source: SceneSource
    device: str = "cpu"

    def prepared(self) -> tuple[CollabModel, TrainingBatch]:
        """Make new networks with random weights, and the batch of the first step. Equal settings give equal results."""
        model = make_model(self.settings, None)
        set_learning(model, self.settings.training)
        return model, TrainingSteps(self.source, model, self.settings)[0]


Step: TypeAlias = Callable[[], float]
StepMaker: TypeAlias = Callable[[Case, CollabModel, TrainingBatch], Step]


def paper_cases() -> tuple[Case, ...]:
    """Return both training stages at the paper's size, in float32 with Adam.

    A step of stage 1 trains all networks on one scene with two agents. A step of stage 2 trains one agent against a frozen base.
    """
    training = ScheduleConfig(batch_scenes=1, max_agents=2, random_agents=False, workers=0)
    frozen = replace(training, max_agents=1, random_ego=True, frozen_base=True)
    m1 = read_agent_type("m1")
    settings = TrainingConfig(agents={"m1": m1}, training=training)
    return Case("train/stage1", settings, SOURCE), Case("train/stage2", replace(settings, training=frozen), SOURCE)


def bench_train(setup: BenchSetup) -> list[BenchRow]:
    """Run `heal bench train`. On a GPU the step is measured in float32 and bfloat16, without the plain form."""
    if setup.device.type == "cpu":
        return [row for case in paper_cases() for row in bench_case(case, setup.measures_plain)]
    rows = []
    precisions: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
    for case, precision in itertools.product(paper_cases(), precisions):
        training = replace(case.settings.training, precision=precision)
        gpu_case = replace(case, settings=replace(case.settings, training=training), device=str(setup.device))
        [timing] = timed(our_step(gpu_case, *gpu_case.prepared()), repeats=setup.repeats, warm_up=3)
        note = f"{1 / timing.seconds:.1f} steps/s"
        rows.append(replace(BenchRow.of(case.name, timing, note), dtype=precision))
    return rows


def bench_case(case: Case, plain: bool = True, repeats: int = REPEATS) -> list[BenchRow]:
    """Measure the step of one training on the CPU.

    Args:
        case: training to measure.
        plain: also measure the plain form; without it there is no speed-up and no memory row.
        repeats: number of rounds that are measured.

    Returns:
        A row with the time. With the plain form, a second row compares the memory if the operating system reports it.
    """
    makers = (our_step, plain_step) if plain else (our_step,)
    with ExitStack() as started:
        workers = [started.enter_context(StepWorker(case, maker)) for maker in makers]
        memory = [worker.first_step_bytes() for worker in workers]
        own, *others = timed(*(worker.step for worker in workers), repeats=repeats)
        flops = workers[0].flops()
    speedup = others[0].seconds / own.seconds if others else None
    row = BenchRow(case.name, own.seconds, flops, None, speedup, torch.get_num_threads(), spread=own.spread)
    return [row, *_memory_rows(case.name, *memory)]


def _memory_rows(name: str, ours: int | None, plain: int | None = None) -> list[BenchRow]:
    """Make the row that compares the memory of two steps in bytes; no row if a number is missing."""
    if ours is None or plain is None:
        return []
    note = f"{ours / 1e9:.2f} GB; the plain step takes {plain / 1e9:.2f} GB"
    return [BenchRow(f"{name}-memory", value=ours / plain, threads=torch.get_num_threads(), note=note)]


def our_step(case: Case, model: CollabModel, batch: TrainingBatch) -> Step:
    """Return a function that takes one step as `heal train` does and returns the loss, for which it waits on a GPU."""
    taker = StepTaker(model, case.settings, Replica(device=case.device))
    device_batch = batch.to(taker.device)
    return lambda: float(taker.take(device_batch, case.settings.training.learning_rate).total.detach())


def plain_step(case: Case, model: CollabModel, batch: TrainingBatch) -> Step:
    """Return a function that takes one step with the plain form of the loss, on the CPU, and returns the loss."""
    settings = case.settings
    optimizer = make_optimizer(model, settings.training)
    anchors = make_anchors(settings.base.grid, settings.base.anchors)

    def step() -> float:
        assert isinstance(batch.targets, AnchorTargets) and isinstance(batch.agent_targets, AnchorTargets)
        truths = (batch.targets, batch.agent_targets, settings.loss, settings.training.single_weight)
        loss = plain_training.training_loss(model, batch.inputs, *truths, anchors)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(loss.detach())

    return step


def step_flops(case: Case, model: CollabModel, batch: TrainingBatch) -> float:
    """Count the floating-point operations of a step's dense layers, forward and backward, as those of direct convolutions."""
    heads = make_heads(case.settings.base)
    return count_flops(lambda: training_loss(Learner(model), batch, case.settings, heads).total.backward())  # type: ignore[no-untyped-call]


class StepWorker:
    """A process that takes one form of the step. Two forms in one process would share freed memory.

    The process of our form keeps freed memory, as `heal train` does. The process of the plain form uses Python's defaults.
    """

    def __init__(self, case: Case, maker: StepMaker) -> None:
        """Start the process and wait until it has prepared the step that `maker` makes."""
        self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=end_with_parent)
        self._pool.submit(_prepare, case, maker, torch.get_num_threads()).result()

    def __enter__(self) -> StepWorker:
        """Return this worker for a `with` statement."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the worker's process and wait for its end."""
        self._pool.shutdown()

    def first_step_bytes(self) -> int | None:
        """Take the first step and return its peak memory in bytes; None if the system does not report memory.

        On a CPU this is the growth of the resident memory, on a GPU the most that torch has allocated, networks and batch included.
        """
        return self._pool.submit(_step_bytes).result()

    def step(self) -> float:
        """Take a step and return the loss."""
        return self._pool.submit(_step).result()

    def flops(self) -> float:
        """Count the floating-point operations of a step; see `step_flops`."""
        return self._pool.submit(_flops).result()


# The case and the step of a worker's process.
_prepared: dict[str, Any] = {}


def _prepare(case: Case, maker: StepMaker, threads: int) -> None:
    """Prepare a step in the worker's process, with a number of torch threads."""
    torch.set_num_threads(threads)
    if maker is our_step:
        keep_freed_memory()
    model, batch = case.prepared()
    _prepared.update(case=case, step=maker(case, model, batch))


def _step() -> float:
    """Take the prepared step and return the loss."""
    return float(_prepared["step"]())


def _flops() -> float:
    """Count the operations of the prepared case with new networks."""
    case: Case = _prepared["case"]
    return step_flops(case, *case.prepared())


def _step_bytes() -> int | None:
    """Take the prepared step and return its peak memory in bytes, see `StepWorker.first_step_bytes`."""
    device = torch.device(_prepared["case"].device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        _step()
        return torch.cuda.max_memory_allocated(device)
    if not STATUS.exists():
        return None
    if RESET_PEAK.exists():
        RESET_PEAK.write_text("5", encoding="ascii")
    before = _resident_bytes("VmRSS")
    _step()
    return _resident_bytes("VmHWM") - before


def _resident_bytes(field: str) -> int:
    """Read a field of Linux's /proc/self/status in bytes: VmRSS, the resident memory now, or VmHWM, its peak."""
    lines = STATUS.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
