"""Training as a plain loop: batches in, trained networks out; killed at any moment, it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from heal.collab_model import CollabModel
from heal.tools.training.checkpoint import Progress, TrainingState
from heal.training.batches import TrainingBatch, TrainingSteps
from heal.training.config import TrainConfig, learning_rate
from heal.training.replica import ALONE, Replica
from heal.training.step import (
    StepLosses,
    StepTaker,
    make_learner,
    make_optimizer,
    make_scaler,
    place,
    set_learning,
)


@dataclass(frozen=True)
class StepReport:
    """What is known after a step."""

    step: int
    steps: int
    epoch: int
    learning_rate: float
    seconds: float
    losses: dict[str, float]


def train(
    model: CollabModel,
    steps: TrainingSteps,
    settings: TrainConfig,
    run: Path,
    report: Callable[[StepReport], None],
    replica: Replica = ALONE,
) -> Progress:
    """Train to the end, from the checkpoint in `run` if there is one.

    With several replicas each takes its share of the scenes of a batch, and their gradients are averaged; the first one writes.

    Raises:
        ConfigError: the precision does not fit the device.
        TrainingStoppedError: the loss became infinite or NaN.
        KeyboardInterrupt: passed on, after a checkpoint.
    """
    device = torch.device(replica.device)
    place(model, device)
    guard = set_learning(model, settings.training)
    optimizer, scaler = make_optimizer(model, settings.training), make_scaler(settings.training, device)
    state = TrainingState(run / "checkpoint.pt", model, optimizer, scaler)
    progress = state.load()
    taker = StepTaker(make_learner(model, settings.training, replica), settings, device, optimizer, scaler)
    clock = _Clock(progress.seconds)
    try:
        for step, rate, losses in _train_steps(taker, steps, progress.step, replica):
            progress = Progress(step + 1, clock.seconds)
            if (step + 1) % steps.steps_per_epoch == 0:
                guard.check()
            if replica.is_first:
                report(StepReport(step, len(steps), step // steps.steps_per_epoch, rate, progress.seconds, losses.parts()))
            if replica.is_first and clock.due(settings.training.checkpoint_s):
                state.save(progress)
    finally:
        if replica.is_first:
            state.save(progress)
    return progress


def _train_steps(taker: StepTaker, steps: TrainingSteps, first: int, replica: Replica) -> Iterator[tuple[int, float, StepLosses]]:
    """Train step by step; yields each one's number, learning rate and losses."""
    training = steps.settings.training
    for step, batch in zip(range(first, len(steps)), _batches(steps, first), strict=True):
        # What is random in the networks depends on the step alone, so that a resumed training goes on as if never stopped.
        torch.manual_seed((training.seed * len(steps) + step) * replica.count + replica.rank)
        rate = learning_rate(training, step, steps.steps_per_epoch)
        yield step, rate, taker.take(batch.to(taker.device), rate)


def _batches(steps: TrainingSteps, first: int) -> Iterator[TrainingBatch]:
    loader = torch.utils.data.DataLoader(
        steps,
        batch_size=None,
        sampler=range(first, len(steps)),
        num_workers=steps.settings.training.workers,
        worker_init_fn=_one_thread,
        prefetch_factor=2 if steps.settings.training.workers else None,
    )
    return iter(loader)


def _one_thread(_: int) -> None:
    """Loading processes share the machine with the training: more threads than one each slow everything down."""
    torch.set_num_threads(1)


class _Clock:
    """Seconds of training over all sittings, and whether the next checkpoint is due."""

    def __init__(self, before: float) -> None:
        self._start = time.monotonic() - before
        self._saved = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    def due(self, every_s: float) -> bool:
        if time.monotonic() - self._saved < every_s:
            return False
        self._saved = time.monotonic()
        return True
