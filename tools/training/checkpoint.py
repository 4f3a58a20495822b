"""Checkpoints that survive a kill at any moment: written beside the old one, then put in its place in one step."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Progress:
    """How far a training is: steps done, seconds spent."""

    step: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class TrainingState:
    """Everything a training goes on from, and the file that it is kept in."""

    path: Path
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler

    def save(self, progress: Progress) -> None:
        """Write it."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": progress.step,
            "seconds": progress.seconds,
        }
        temporary = self.path.with_suffix(".writing")
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)

    def load(self) -> Progress:
        """Go back to what was written last; without a file everything stays as it is, at step 0."""
        if not self.path.exists():
            return Progress()
        state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        return Progress(int(state["step"]), float(state["seconds"]))


def load_weights(path: Path, model: nn.Module) -> Progress:
    """Put a checkpoint's weights into `model`, and nothing else of it anywhere."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    return Progress(int(state["step"]), float(state["seconds"]))
