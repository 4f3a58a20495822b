"""The long runs in short, so that they work when they are needed: `docs/robustness.md` has the commands and the figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.long.commands import CASES

pytestmark = pytest.mark.nightly


def accounts(out: Path, name: str, *options: str) -> dict[str, Any]:
    """Run a long run as a program, check that it finds nothing wrong, and return what it has written."""
    command = [sys.executable, "-m", f"tests.long.{name}", "--out", str(out), *options]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-5000:]
    written: dict[str, Any] = json.loads((out / f"{name}.json").read_text())
    return written


@pytest.mark.parametrize("name", CASES)
def test_a_command_that_is_killed_goes_on_to_the_same_result(name: str, tmp_path: Path) -> None:
    account = accounts(tmp_path, "kills", "--kills", "6", "--only", name)["commands"][name]
    assert account["kills"] == 6 and account["equal"] == account["episodes"] > 1 and account["problems"] == []


@pytest.mark.ray
@pytest.mark.parametrize("clock", [(), ("--realtime",)], ids=["simulated", "wall"])
def test_a_run_in_which_processes_die_accounts_for_every_message(clock: tuple[str, ...], tmp_path: Path) -> None:
    found = accounts(tmp_path, "faults", "--minutes", "1.5", "--every-s", "4", *clock)
    assert found["ticks"] > 20 and found["messages"] > 3 * found["ticks"] and found["problems"] == []
    assert sum(found["broken"].values()) and (clock or found["compared"]["equal"] > 10)


@pytest.mark.ray
def test_strangers_change_nothing_and_are_counted(tmp_path: Path) -> None:
    pytest.importorskip("zenoh")
    found = accounts(tmp_path, "strangers", "--ticks", "60")
    assert found["problems"] == [] and found["honest"]["used"] > 30 and found["turned away"]["replayed"] == 59
