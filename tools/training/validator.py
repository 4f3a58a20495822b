"""The validations of a training: after which epochs, whose weights are the best so far, and whether to stop."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from heal.alliance import ValidationRecord
from heal.config import ConfigError
from heal.tools.training.checkpoint import BEST_NAME, load_best, save_best
from heal.tools.training.interrupts import signals_held
from heal.tools.training.loading import load_batches
from heal.training.step import StepTaker
from heal.training.validation import ValidationScenes, validate


class Validator:
    """Validates a training and keeps its best weights: those with the lowest validation loss, as HEAL does.

    The loss is defined on all data, unlike AP, which needs an object; AP is logged beside the loss.

    Attributes:
        validated: the epochs, counted from 1, after which the training was validated.
    """

    def __init__(
        self, scenes: ValidationScenes, split: str, run: Path, report: Callable[[int, ValidationRecord], None] = lambda *_: None
    ) -> None:
        """Read the best validation so far.

        Args:
            scenes: the validation scenes.
            split: name of their split.
            run: run folder of the training; the best weights lie in it.
            report: called on the first replica with the number of steps done, and the validation after them.

        Raises:
            ConfigError: the best weights so far were chosen on other scenes, so their loss cannot be compared.
        """
        self.validated: list[int] = []
        self._scenes, self._split, self._path, self._report = scenes, split, run / BEST_NAME, report
        self._training, self._best = scenes.settings.training, load_best(self._path)
        here, there = (split, len(scenes.source)), self._best and (self._best.split, self._best.scenes)
        if there and there != here:
            raise ConfigError(
                f"{self._path} was chosen on {there[1]} scenes of split {there[0]}, and the validation now has {here[1]} scenes of "
                f"split {here[0]}; validate on the same scenes, or start anew with --restart"
            )

    def is_due(self, epoch: int) -> bool:
        """Return whether a validation has to follow an epoch, counted from 1; the last epoch is always validated."""
        wanted = epoch % self._training.validate_every_epochs == 0 or epoch == self._training.epochs
        return wanted and epoch not in self.validated

    @property
    def gives_up(self) -> bool:
        """Whether the patience of the settings is over: so many validations since the best one."""
        best_epoch = self._best.epoch if self._best else 0
        return 0 < self._training.patience <= sum(epoch > best_epoch for epoch in self.validated)

    def validate(self, taker: StepTaker, epoch: int, steps_done: int) -> None:
        """Validate the networks after an epoch, and keep their weights if they are the best so far."""
        loader = load_batches(self._scenes, range(len(self._scenes)), self._training.workers)
        score = validate(taker, loader)
        ap = {str(threshold): value for threshold, value in score.ap.items()}
        record = ValidationRecord(split=self._split, scenes=len(self._scenes.source), epoch=epoch, loss=score.loss, ap=ap)
        with signals_held():
            if math.isfinite(record.loss) and (self._best is None or record.loss < self._best.loss):
                if taker.replica.is_first:
                    save_best(self._path, taker.model, record)
                self._best = record
            self.validated.append(epoch)
            if taker.replica.is_first:
                self._report(steps_done, record)
