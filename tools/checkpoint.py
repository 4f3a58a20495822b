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


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, progress: Progress
) -> None:
    """Write everything a training goes on from."""
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),
        "step": progress.step,
        "seconds": progress.seconds,
    }
    temporary = path.with_suffix(".writing")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> Progress:
    """Put model, optimizer and scaler into the state of a checkpoint; a missing one leaves them as they are, at step 0."""
    if not path.exists():
        return Progress()
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    scaler.load_state_dict(state["scaler"])
    return Progress(int(state["step"]), float(state["seconds"]))


def load_weights(path: Path, model: nn.Module) -> Progress:
    """Put a checkpoint's weights into `model`, and nothing else of it anywhere."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    return Progress(int(state["step"]), float(state["seconds"]))
