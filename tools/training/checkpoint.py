"""Checkpoints that survive a kill at any moment: each is written to a new file, which then replaces the old one atomically."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from heal.atomic_write import replacing

CHECKPOINT_NAME = "checkpoint.pt"


@dataclass(frozen=True)
class TrainingProgress:
    """How far a training is: number of steps done, and seconds of training."""

    step: int = 0
    seconds: float = 0.0


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
        }
        with replacing(self.path) as temporary, temporary.open("wb") as file:
            torch.save(state, file)

    def load(self) -> TrainingProgress:
        """Restore all objects from the file and return the progress; without a file nothing changes and the progress is zero.

        The optimiser keeps its own settings, such as its weight decay, which may differ from those before the interruption.
        """
        if not self.path.exists():
            return TrainingProgress()
        state = _read_state(self.path)
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
    state = _read_state(path)
    model.load_state_dict(state["model"])
    return _progress_of(state)


def _read_state(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _progress_of(state: dict[str, Any]) -> TrainingProgress:
    return TrainingProgress(int(state["step"]), float(state["seconds"]))
