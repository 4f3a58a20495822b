"""The training loop: batches in, trained networks out; resumed from its last checkpoint after a kill at any moment."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from heal.collab_model import CollabModel
from heal.config import ConfigError
from heal.tools.training.checkpoint import CHECKPOINT_NAME, Checkpoint, TrainingProgress
from heal.tools.training.interrupts import ignore_interrupts, signals_held
from heal.training.batches import TrainingBatch, TrainingSteps
from heal.training.config import TrainingConfig, learning_rate
from heal.training.replica import ALONE, Replica
from heal.training.step import (
    BaseGuard,
    StepTaker,
    TrainingStoppedError,
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

    Replicas train on shares of the scenes of a batch; their gradients are averaged. Only the first writes checkpoints and reports.

    Raises:
        ConfigError: the precision does not fit the device, or the checkpoint does not fit the base or the number of epochs.
        TrainingStoppedError: the loss or a gradient became infinite or NaN, or a frozen base changed. The last checkpoint is kept.
        KeyboardInterrupt: raised again after the step, and a checkpoint.
    """
    guard, taker, checkpoint, progress = _set_up(model, steps, settings, run, replica)
    clock, whole = _TrainingClock(progress.seconds), True
    try:
        for step, batch in zip(range(progress.step, len(steps)), _batches(steps, progress.step), strict=True):
            with signals_held():
                whole = False
                done = _take_step(taker, steps, step, batch, replica, clock)
                progress, whole = TrainingProgress(step + 1, done.seconds), True
                if (step + 1) % steps.steps_per_epoch == 0:
                    guard.check()
                if replica.is_first:
                    report(done)
            if replica.is_first and clock.checkpoint_due(settings.training.checkpoint_s):
                checkpoint.save(progress)
    except (KeyboardInterrupt, SystemExit):
        if replica.is_first and whole:
            checkpoint.save(progress)
        raise
    if replica.is_first:
        checkpoint.save(progress)
    return progress


def _set_up(
    model: CollabModel, steps: TrainingSteps, settings: TrainingConfig, run: Path, replica: Replica
) -> tuple[BaseGuard, StepTaker, Checkpoint, TrainingProgress]:
    """Move a model to the replica's device, set it to train and restore its last checkpoint; make its guard and step taker."""
    device = torch.device(replica.device)
    place(model, device)
    guard = set_learning(model, settings.training)
    optimizer, scaler = make_optimizer(model, settings.training), make_scaler(settings.training, device)
    checkpoint = Checkpoint(run / CHECKPOINT_NAME, model, optimizer, scaler)
    progress = _load_progress(checkpoint, steps, guard)
    taker = StepTaker(make_learner(model, settings.training, replica), settings, device, optimizer, scaler)
    return guard, taker, checkpoint, progress


def _load_progress(checkpoint: Checkpoint, steps: TrainingSteps, guard: BaseGuard) -> TrainingProgress:
    """Restore the last checkpoint.

    Raises:
        ConfigError: its frozen base is another one, or it is beyond the last step, as after fewer epochs were asked for.
    """
    progress = checkpoint.load()
    try:
        guard.check()
    except TrainingStoppedError as error:
        raise ConfigError(f"{checkpoint.path} is of a training for another base; start anew with --restart") from error
    if progress.step > len(steps):
        epochs = math.ceil(progress.step / steps.steps_per_epoch)
        raise ConfigError(
            f"{checkpoint.path} has {progress.step} steps, more than the {len(steps)} of training.epochs="
            f"{steps.settings.training.epochs}; expected at least training.epochs={epochs}, or start anew with --restart"
        )
    return progress


def _take_step(
    taker: StepTaker, steps: TrainingSteps, step: int, batch: TrainingBatch, replica: Replica, clock: _TrainingClock
) -> StepReport:
    """Train one step."""
    training = steps.settings.training
    # The networks' random numbers depend on the step alone, so that a resumed training ends with the same weights.
    torch.manual_seed((training.seed * len(steps) + step) * replica.count + replica.rank)
    rate = learning_rate(training, step, steps.steps_per_epoch)
    losses = taker.take(batch.to(taker.device), rate).parts()
    return StepReport(step, len(steps), step // steps.steps_per_epoch, rate, clock.seconds, losses)


def _batches(steps: TrainingSteps, first: int) -> Iterator[TrainingBatch]:
    """Load the batches of the steps from `first` on, in worker processes if the settings ask for them."""
    loader = torch.utils.data.DataLoader(
        steps,
        batch_size=None,
        sampler=range(first, len(steps)),
        num_workers=steps.settings.training.workers,
        worker_init_fn=_set_up_worker,
        prefetch_factor=2 if steps.settings.training.workers else None,
    )
    return iter(loader)


def _set_up_worker(_: int) -> None:
    """Limit a loading process to one thread, for more would slow down the training on the same cores; Ctrl-C is the parent's."""
    torch.set_num_threads(1)
    ignore_interrupts()


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
