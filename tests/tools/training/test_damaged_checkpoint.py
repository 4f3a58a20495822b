"""Files that a training goes on from: whatever they hold, one error names the file and says what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from heal.config import ConfigError
from heal.tools.training.checkpoint import Checkpoint, TrainingProgress, load_best, load_weights


def checkpoint(path: Path, width: int = 3) -> Checkpoint:
    """Return the checkpoint of a network whose optimiser has taken a step."""
    model = nn.Linear(2, width)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return Checkpoint(path, model, optimizer, torch.amp.GradScaler("cpu"))


def without(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda state: {name: value for name, value in state.items() if name != key}


@pytest.mark.parametrize(
    "change",
    [
        *(without(key) for key in ("model", "optimizer", "scaler", "step")),
        lambda state: {**state, "optimizer": {"state": {}, "param_groups": []}},
        lambda state: {**state, "optimizer": 7},
        lambda state: {**state, "step": float("inf")},
        lambda state: {**state, "validated": 3},
        lambda state: [state],
        lambda state: state["model"]["weight"],
    ],
)
def test_a_checkpoint_of_another_content_is_named(tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    written = checkpoint(tmp_path / "checkpoint.pt")
    written.save(TrainingProgress(4, 2.5, (1,)))
    assert written.load() == TrainingProgress(4, 2.5, (1,))
    torch.save(change(torch.load(written.path, weights_only=True)), written.path)
    with pytest.raises(ConfigError, match=r"checkpoint\.pt: not of this training \(.*\); start anew with --restart") as refused:
        written.load()
    assert len(str(refused.value).splitlines()) == 1


def test_a_checkpoint_of_another_network_is_named(tmp_path: Path) -> None:
    checkpoint(tmp_path / "checkpoint.pt", width=4).save(TrainingProgress())
    with pytest.raises(ConfigError, match=r"not of this training .*size mismatch for weight"):
        load_weights(tmp_path / "checkpoint.pt", nn.Linear(2, 3))


def test_the_best_weights_without_their_validation_are_named(tmp_path: Path) -> None:
    torch.save({"model": {}}, tmp_path / "best.pt")
    with pytest.raises(ConfigError, match=r"best\.pt: not of this training \(KeyError: 'validation'\)"):
        load_best(tmp_path / "best.pt")
    (tmp_path / "best.pt").write_bytes(b"PK" + bytes(100))
    with pytest.raises(ConfigError, match=r"best\.pt: the file is cut"):
        load_best(tmp_path / "best.pt")
