"""The training loop: batches in, trained networks out; resumed from its last checkpoint after a kill at any moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from heal.collab_model import CollabModel
from heal.tools.training.checkpoint import CHECKPOINT_NAME, Checkpoint, TrainingProgress
from heal.training.batches import TrainingBatch, TrainingSteps
from heal.training.config import TrainingConfig, learning_rate
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
    """The log entry of a step.

    Attributes:
        step: number of the step, from 0 over the whole training.
        steps: number of steps of the whole training.
        epoch: number of the epoch, from 0.
        learning_rate: of this step.
        seconds: time of training so far, without interruptions.
        losses: "total" and its parts, by name.
    """

    step: int
    steps: int
    epoch: int
    learning_rate: float
    seconds: float
    losses: dict[str, float]


def train(
    model: CollabModel,
    steps: TrainingSteps,
    settings: TrainingConfig,
    run: Path,
    report: Callable[[StepReport], None],
    replica: Replica = ALONE,
) -> TrainingProgress:
    """Train to the last step, from the checkpoint in `run` if there is one.

    With several replicas each trains on its share of the scenes of a batch, and the gradients are averaged. Only the first replica
    writes checkpoints and calls `report`.

    Raises:
        ConfigError: the precision does not fit the device.
        TrainingStoppedError: the loss became infinite or NaN.
        KeyboardInterrupt: raised again after a checkpoint.
    """
    device = torch.device(replica.device)
    place(model, device)
    guard = set_learning(model, settings.training)
    optimizer, scaler = make_optimizer(model, settings.training), make_scaler(settings.training, device)
    checkpoint = Checkpoint(run / CHECKPOINT_NAME, model, optimizer, scaler)
    progress = checkpoint.load()
    taker = StepTaker(make_learner(model, settings.training, replica), settings, device, optimizer, scaler)
    clock = _TrainingClock(progress.seconds)
    try:
        for step, rate, losses in _train_steps(taker, steps, progress.step, replica):
            progress = TrainingProgress(step + 1, clock.seconds)
            if (step + 1) % steps.steps_per_epoch == 0:
                guard.check()
            if replica.is_first:
                report(StepReport(step, len(steps), step // steps.steps_per_epoch, rate, progress.seconds, losses.parts()))
            if replica.is_first and clock.checkpoint_due(settings.training.checkpoint_s):
                checkpoint.save(progress)
    finally:
        if replica.is_first:
            checkpoint.save(progress)
    return progress


def _train_steps(taker: StepTaker, steps: TrainingSteps, first: int, replica: Replica) -> Iterator[tuple[int, float, StepLosses]]:
    """Train step by step; yield the number, learning rate and losses of each step."""
    training = steps.settings.training
    for step, batch in zip(range(first, len(steps)), _batches(steps, first), strict=True):
        # The networks' random numbers depend on the step alone, so that a resumed training ends with the same weights.
        torch.manual_seed((training.seed * len(steps) + step) * replica.count + replica.rank)
        rate = learning_rate(training, step, steps.steps_per_epoch)
        yield step, rate, taker.take(batch.to(taker.device), rate)


def _batches(steps: TrainingSteps, first: int) -> Iterator[TrainingBatch]:
    """Load the batches of the steps from `first` on, in worker processes if the settings ask for them."""
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
    """Limit a loading process to one thread: more threads would slow down the training on the same cores."""
    torch.set_num_threads(1)


class _TrainingClock:
    """The seconds of training, over all interruptions, and the time of the last checkpoint."""

    def __init__(self, seconds_before: float) -> None:
        """Start with the seconds up to the checkpoint that the training is resumed from."""
        self._start = time.monotonic() - seconds_before
        self._saved = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds of training so far."""
        return time.monotonic() - self._start

    def checkpoint_due(self, every_s: float) -> bool:
        """Return whether `every_s` seconds have passed since the last checkpoint; if so, start to count anew."""
        if time.monotonic() - self._saved < every_s:
            return False
        self._saved = time.monotonic()
        return True
