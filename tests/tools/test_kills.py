"""Commands that are killed again and again, at random instants: repeated, each ends with the result of a run without a kill."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from heal.tools.shared.paths import CONFIGS

pytestmark = pytest.mark.nightly

KILLS = 15
DEMO = CONFIGS / "demo" / "alliance"
CHANGES = ("training.epochs=4", "training.checkpoint_s=1", "training.replicas=1", "training.precision=float32")
TRAINING = f"--device cpu --threads 1 {' '.join(f'--set {change}' for change in CHANGES)}"


@dataclass(frozen=True)
class Case:
    """A command that takes long enough to be killed.

    Attributes:
        command: the arguments of `heal`; DATA stands for the data set, OUT for the folder of the results.
        result: reads what has to be equal, from the folder of the results.
    """

    command: str
    result: Callable[[Path], object]


def weights(folder: Path) -> dict[str, str]:
    """Return a hash of every tensor in the files of an alliance."""
    return {
        f"{path.relative_to(folder)} {name}": hashlib.sha256(values.tobytes()).hexdigest()
        for path in sorted(folder.rglob("*.safetensors"))
        for name, values in load_file(path).items()
    }


def files(folder: Path) -> dict[str, str]:
    """Return a hash of every file below a folder."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def scores(path: Path) -> dict[str, Any]:
    """Return the content of a file of results, without what made it: the date is another one each time."""
    content: dict[str, Any] = json.loads(path.read_text())
    del content["made_by"]
    return content


CASES = {
    "train base": Case(
        f"train base --data DATA --config demo/base.yaml --out OUT {TRAINING}", lambda out: weights(out / "alliance")
    ),
    "train agent": Case(
        f"train agent --type demo/agents/m1.yaml --base {DEMO} --config demo/agent.yaml --data DATA --out OUT/alliance {TRAINING}",
        lambda out: weights(out / "alliance"),
    ),
    "generate": Case("generate OUT --preset test --split train --frames 40 --seed 5 --sensors lidar", files),
    "sweep": Case(
        f"sweep delay --alliance {DEMO} --source DATA --split train --ticks 2 --processes 2 --out OUT --overwrite",
        lambda out: scores(out / "sweep.json"),
    ),
    "evaluate --cache": Case(
        f"evaluate --alliance {DEMO} --data DATA --split train --pictures 0 --threads 1 --cache OUT/cache --out OUT --overwrite",
        lambda out: scores(out / "metrics.json"),
    ),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("town")
    for split, frames in (("train", 8), ("validate", 2)):
        command = f"generate OUT --preset test --split {split} --frames {frames} --seed 3 --sensors lidar"
        run_whole(command, folder, folder)
    return folder


def start(command: str, data: Path, out: Path) -> subprocess.Popen[bytes]:
    """Start `heal` with a command; its output goes to the file OUT.log."""
    arguments = command.replace("DATA", str(data)).replace("OUT", str(out)).split()
    with out.with_suffix(".log").open("ab") as log:
        return subprocess.Popen([sys.executable, "-m", "heal.tools.cli", *arguments], stdout=log, stderr=subprocess.STDOUT)


def run_whole(command: str, data: Path, out: Path) -> float:
    """Run a command to its end, and return how many seconds it took."""
    began_s = time.monotonic()
    with start(command, data, out) as process:
        assert process.wait(600) == 0, out.with_suffix(".log").read_text()[-3000:]
    return time.monotonic() - began_s


@pytest.mark.parametrize("name", CASES)
def test_a_command_that_is_killed_goes_on_to_the_same_result(name: str, data: Path, tmp_path: Path) -> None:
    case, whole, killed = CASES[name], tmp_path / "whole", tmp_path / "killed"
    seconds = run_whole(case.command, data, whole)
    expected, kills = case.result(whole), 0
    assert expected
    while kills < KILLS:
        with start(case.command, data, killed) as process:
            try:
                assert process.wait(random.SystemRandom().uniform(0.1, 1.0) * seconds) == 0, killed.with_suffix(".log").read_text()
                assert case.result(killed) == expected
                shutil.rmtree(killed)
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
    run_whole(case.command, data, killed)
    assert case.result(killed) == expected
