"""The training loop: batches in, trained networks out; resumed from its last checkpoint after a kill at any moment."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from heal.collab_model import CollabModel
from heal.config import ConfigError
from heal.tools.training.checkpoint import CHECKPOINT_NAME, Checkpoint, TrainingProgress
from heal.tools.training.interrupts import signals_held
from heal.tools.training.loading import load_batches
from heal.tools.training.validator import Validator
from heal.training.batches import TrainingBatch, TrainingSteps
from heal.training.config import TrainingConfig, learning_rate
from heal.training.replica import ALONE, Replica
from heal.training.step import StepTaker, TrainingStoppedError


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
    validator: Validator | None = None,
) -> TrainingProgress:
    """Train to the last step, or until the validator gives up, from the checkpoint in `run` if there is one.

    Replicas train on shares of the scenes of a batch, with the mean of their gradients and of their batch norms' statistics. Only
    the first writes checkpoints and reports.

    Raises:
        ConfigError: the precision does not fit the device, or the checkpoint does not fit the base or the number of epochs.
        TrainingStoppedError: the loss or a gradient became infinite or NaN, or a frozen network changed; the checkpoint is kept.
        KeyboardInterrupt: raised again after the step, and a checkpoint.
    """
    taker = StepTaker(model, settings, replica, steps.teacher)
    checkpoint, progress = _load_checkpoint(run, taker, steps, validator)
    clock, whole = _TrainingClock(progress.seconds), True
    try:
        _validate(validator, taker, steps, progress.step)  # if this training was interrupted before
        for step, batch in enumerate(_batches(steps, progress.step), progress.step):
            if validator and validator.gives_up:
                break
            with signals_held():
                whole = False
                done = _take_step(taker, steps, step, batch, clock)
                progress, whole = replace(progress, step=step + 1, seconds=done.seconds), True
                if replica.is_first:
                    report(done)
            if _validate(validator, taker, steps, progress.step) or clock.checkpoint_due(settings.training.checkpoint_s):
                _save(checkpoint, progress, validator, replica)
    except (KeyboardInterrupt, SystemExit):
        if whole:
            _save(checkpoint, progress, validator, replica)
        raise
    return _save(checkpoint, progress, validator, replica)


def _validate(validator: Validator | None, taker: StepTaker, steps: TrainingSteps, steps_done: int) -> bool:
    """Validate at the end of an epoch if this is due, and return whether it was."""
    epoch, rest = divmod(steps_done, steps.steps_per_epoch)
    if validator is None or not epoch or rest or not validator.is_due(epoch):
        return False
    validator.validate(taker, epoch, steps_done)
    return True


def _save(checkpoint: Checkpoint, progress: TrainingProgress, validator: Validator | None, replica: Replica) -> TrainingProgress:
    """Write a checkpoint as the first replica, and return the progress with the validations so far."""
    if validator:
        progress = replace(progress, validated=tuple(validator.validated))
    if replica.is_first:
        checkpoint.save(progress)
    return progress


def _load_checkpoint(
    run: Path, taker: StepTaker, steps: TrainingSteps, validator: Validator | None
) -> tuple[Checkpoint, TrainingProgress]:
    """Restore the last checkpoint in a folder.

    Raises:
        ConfigError: its frozen networks are other ones, or it is beyond the last step, as after fewer epochs were asked for.
    """
    checkpoint = Checkpoint(run / CHECKPOINT_NAME, taker.model, taker.optimizer, taker.scaler)
    progress = checkpoint.load()
    try:
        taker.guard.check()
    except TrainingStoppedError as error:
        raise ConfigError(
            f"{checkpoint.path} is of a training for another base, or from another type; start anew with --restart"
        ) from error
    if progress.step > len(steps):
        epochs = math.ceil(progress.step / steps.steps_per_epoch)
        raise ConfigError(
            f"{checkpoint.path} has {progress.step} steps, more than the {len(steps)} of training.epochs="
            f"{steps.settings.training.epochs}; expected at least training.epochs={epochs}, or start anew with --restart"
        )
    if validator:
        validator.validated = list(progress.validated)
    return checkpoint, progress


def _batches(steps: TrainingSteps, first: int) -> Iterable[TrainingBatch]:
    """Load the batches of the steps from `first` on."""
    return load_batches(steps, range(first, len(steps)), steps.settings.training.workers)


def _take_step(taker: StepTaker, steps: TrainingSteps, step: int, batch: TrainingBatch, clock: _TrainingClock) -> StepReport:
    """Train one step, and at the end of an epoch check that frozen networks have stayed as they were."""
    training, replica = steps.settings.training, taker.replica
    # The networks' random numbers depend on the step alone, so that a resumed training ends with the same weights.
    torch.manual_seed((training.seed * len(steps) + step) * replica.count + replica.rank)
    rate = learning_rate(training, step, steps.steps_per_epoch)
    taker.statistics.begin_step(step)
    losses = taker.take(batch.to(taker.device), rate).parts()
    if (step + 1) % steps.steps_per_epoch == 0:
        taker.guard.check()
    return StepReport(step, len(steps), step // steps.steps_per_epoch, rate, clock.seconds, losses)


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
