"""Checkpoints and best weights: each is written to a new file, which then replaces the old one, so a kill at any moment is safe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from heal.alliance import ValidationRecord
from heal.atomic_write import replacing
from heal.checkpoint_file import read_checkpoint
from heal.config import ConfigError, build_config, to_plain
from heal.errors import UserError

CHECKPOINT_NAME, BEST_NAME = "checkpoint.pt", "best.pt"


@dataclass(frozen=True)
class TrainingProgress:
    """How far a training is.

    Attributes:
        step: number of steps done.
        seconds: seconds of training.
        validated: the epochs, counted from 1, after which it was validated.
    """

    step: int = 0
    seconds: float = 0.0
    validated: tuple[int, ...] = ()


@dataclass(frozen=True)
class Checkpoint:
    """The file that a training is resumed from, and the objects whose state the file keeps."""

    path: Path
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler

    def save(self, progress: TrainingProgress) -> None:
        """Write the state of all objects, and the progress."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": progress.step,
            "seconds": progress.seconds,
            "validated": list(progress.validated),
        }
        _write_state(self.path, state)

    def load(self) -> TrainingProgress:
        """Restore all objects from the file and return the progress; without a file nothing changes and the progress is zero.

        The optimiser keeps its own settings, such as its weight decay, which may differ from those before the interruption.

        Raises:
            ConfigError: the file cannot be read, or is none of such a training.
        """
        if not self.path.exists():
            return TrainingProgress()
        with _state_of(self.path) as state:
            self.model.load_state_dict(state["model"])
            _load_optimizer(self.optimizer, state["optimizer"])
            if state["scaler"]:  # empty if the precision was another one
                self.scaler.load_state_dict(state["scaler"])
            return _progress_of(state)


def _load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Restore the averages of an optimiser, and keep the settings that it was made with."""
    settings = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, values in zip(optimizer.param_groups, settings, strict=True):
        group.update(values)


def load_weights(path: Path, model: nn.Module) -> TrainingProgress:
    """Load only the weights of a checkpoint into `model`; return the progress of the training."""
    with _state_of(path) as state:
        model.load_state_dict(state["model"])
        return _progress_of(state)


def save_best(path: Path, model: nn.Module, record: ValidationRecord) -> None:
    """Write the weights of a model with the record of their validation."""
    _write_state(path, {"model": model.state_dict(), "validation": to_plain(record)})


def load_best(path: Path, model: nn.Module | None = None) -> ValidationRecord | None:
    """Read what `save_best` has written, the weights into `model` if it is given; None without a file."""
    if not path.exists():
        return None
    with _state_of(path) as state:
        if model is not None:
            model.load_state_dict(state["model"])
        return build_config(ValidationRecord, state["validation"], str(path))


def _write_state(path: Path, state: dict[str, Any]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        torch.save(state, file)


@contextmanager
def _state_of(path: Path) -> Iterator[dict[str, Any]]:
    """Read a file that a training has written, for a block that restores it; ConfigError if the content does not fit the block."""
    state = read_checkpoint(path)
    try:
        if not isinstance(state, dict):
            raise TypeError(f"expected entries by name, got {type(state).__name__}")
        yield state
    except UserError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        detail = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ConfigError(f"{path}: not of this training ({detail}); start anew with --restart") from error


def _progress_of(state: dict[str, Any]) -> TrainingProgress:
    return TrainingProgress(int(state["step"]), float(state["seconds"]), tuple(state.get("validated", ())))
