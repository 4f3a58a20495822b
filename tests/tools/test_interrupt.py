"""Ctrl-C, or a request to end, ends a run: the results so far are written, and no process is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from heal.tools.shared.paths import CONFIGS
from tests.agents.tiny_run import save_tiny_alliance
from tests.tools.command import restore_interrupts

PATIENCE_S = 120.0


@pytest.mark.ray
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_its_ticks_and_ends_all_processes(number: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "heal.tools.cli", "simulate", "--alliance", str(CONFIGS / "demo" / "alliance")]
    options = ["--preset", "test", "--ticks", "2000", "--runtime", "ray", "--out", str(tmp_path)]
    # In a new session, so that SIGINT goes to all processes of the run, like Ctrl-C in a terminal; SIGTERM goes to the first alone.
    with subprocess.Popen(
        [*command, *options],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=restore_interrupts,
    ) as run:
        try:
            wait_for_ticks(tmp_path / "ticks.jsonl", run, 3)
            started = psutil.Process(run.pid).children(recursive=True)
            (os.killpg if number == signal.SIGINT else os.kill)(run.pid, number)
            output = run.communicate(timeout=PATIENCE_S)[0].decode()
        finally:
            run.kill()
    assert run.returncode == 130 and "***" not in output, output
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    lines = (tmp_path / "ticks.jsonl").read_text().splitlines()
    assert metrics["frames"] == len(lines) >= 3
    assert (tmp_path / "report.html").exists() and (tmp_path / "last_tick.png").exists()
    assert started and psutil.wait_procs(started, timeout=30)[1] == []


def wait_for_ticks(path: Path, run: subprocess.Popen[bytes], count: int) -> None:
    """Wait until the file has `count` lines; AssertionError if the run ends or takes too long before."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and run.poll() is None:
        if path.exists() and len(path.read_text().splitlines()) >= count:
            return
        time.sleep(0.2)
    raise AssertionError(f"the run has not written {count} ticks")


def test_a_sweep_that_is_asked_to_end_leaves_no_process(tmp_path: Path) -> None:
    alliance = save_tiny_alliance(tmp_path / "alliance")
    command = [sys.executable, "-m", "heal.tools.cli", "sweep", "delay", "--alliance", str(alliance), "--processes", "2"]
    options = ["--preset", "test", "--towns", "2", "--ticks", "2000", "--out", str(tmp_path)]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as run:
        try:
            started = wait_for_children(psutil.Process(run.pid), 3)
            run.terminate()
            output = run.communicate(timeout=PATIENCE_S)[0].decode()
        finally:
            run.kill()
    assert run.returncode == 130 and "Traceback" not in output, output
    assert psutil.wait_procs(started, timeout=30)[1] == []


def wait_for_children(process: psutil.Process, count: int) -> list[psutil.Process]:
    """Wait until a process has this many descendants, and return them; AssertionError if this takes too long."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if len(started := process.children(recursive=True)) >= count:
            return started
        time.sleep(0.05)
    raise AssertionError(f"there are no {count} processes")
