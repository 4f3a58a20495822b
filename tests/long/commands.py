"""The commands that a long run kills: what they are called with, what has to be equal in the end, and how far they have come."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from heal.config import save_config
from tests.agents.tiny_run import save_tiny_alliance
from tests.tools.comparing.micro import LOSS, SCHEDULE, TYPE, micro, save_spec

TRAINING = {**SCHEDULE, "epochs": 12, "checkpoint_s": 1, "validate_every_epochs": 4}


@dataclass(frozen=True)
class Case:
    """A command that takes long enough to be killed.

    Attributes:
        command: the arguments of `heal`; IN stands for the folder of `prepare`, OUT for the folder of the results.
        result: reads what has to be equal, from the folder of the results.
        progress: counts what a later start can go on from, in the folder of the results; 0 for a command that begins anew.
    """

    command: str
    result: Callable[[Path], object]
    progress: Callable[[Path], int] = lambda _: 0


def prepare(folder: Path, run: Callable[[str], object]) -> None:
    """Write what the commands read: scenes, an alliance, settings and a comparison; `run` runs a command of `heal` to its end."""
    for split, frames in (("train", 8), ("validate", 2), ("test", 4)):
        run(f"generate IN/town --preset test --split {split} --frames {frames} --seed 3 --sensors lidar")
    save_tiny_alliance(folder / "alliance")
    comparison = micro(folder / "town", seeds=[0])
    common = {"loss": LOSS, "training": TRAINING}
    save_config({"base": comparison["stage1"]["base"], "agents": {"m1": TYPE}, **common}, folder / "base.yaml")
    save_config(common, folder / "agent.yaml")
    save_config(TYPE, folder / "m1.yaml")
    save_spec(folder / "spec.yaml", comparison)


def weights(folder: Path) -> dict[str, str]:
    """Return a hash of every tensor in the files of an alliance."""
    return {
        f"{path.relative_to(folder)} {name}": hashlib.sha256(values.tobytes()).hexdigest()
        for path in sorted(folder.rglob("*.safetensors"))
        for name, values in load_file(path).items()
    }


def hashes(folder: Path) -> dict[str, str]:
    """Return a hash of every file below a folder."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def numbers(path: Path) -> dict[str, Any]:
    """Return the content of a file of results, without what made it and how long it took."""
    content: dict[str, Any] = json.loads(path.read_text())
    return {name: value for name, value in content.items() if name not in ("made_by", "latency_ms", "ticks_per_second")}


def _count(pattern: str) -> Callable[[Path], int]:
    return lambda out: len(list(out.glob(pattern)))


CASES = {
    "train base": Case(
        "train base --data IN/town --config IN/base.yaml --out OUT --device cpu --threads 1",
        lambda out: weights(out / "alliance"),
        _count("checkpoint.pt"),
    ),
    "train agent": Case(
        "train agent --type IN/m1.yaml --base IN/alliance --config IN/agent.yaml --data IN/town --out OUT/alliance --device cpu "
        "--threads 1",
        lambda out: weights(out / "alliance"),
        _count("alliance-m1/checkpoint.pt"),
    ),
    "generate": Case(
        "generate OUT --preset test --split train --frames 40 --seed 5 --sensors lidar", hashes, _count("OPV2V/train/*")
    ),
    "evaluate --cache": Case(
        "evaluate --alliance IN/alliance --data IN/town --split train --pictures 0 --threads 1 --cache OUT/cache --out OUT "
        "--overwrite",
        lambda out: (numbers(out / "metrics.json"), hashes(out / "cache")),
        _count("cache/*/*"),
    ),
    "sweep": Case(
        "sweep delay --alliance IN/alliance --source IN/town --split train --ticks 8 --processes 2 --out OUT --overwrite",
        lambda out: numbers(out / "sweep.json"),
    ),
    "compare": Case(
        "compare IN/spec.yaml --workers 2 --out OUT --overwrite",
        lambda out: ((out / "results.csv").read_text(), weights(out / "trained")),
        _count("trained/*/done.json"),
    ),
    "simulate": Case(
        "simulate --alliance IN/alliance --source IN/town --split train --link delay:40,loss:0.2 --seed 2 --out OUT --overwrite",
        lambda out: (out / "ticks.jsonl").read_text(),
    ),
}
