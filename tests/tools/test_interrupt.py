"""Ctrl-C ends a run: the results so far are written, and no process is left."""

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
from tests.tools.command import restore_interrupts

PATIENCE_S = 120.0


@pytest.mark.ray
def test_an_interrupted_run_keeps_its_ticks_and_ends_all_processes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "heal.tools.cli", "simulate", "--alliance", str(CONFIGS / "demo" / "alliance")]
    options = ["--preset", "test", "--ticks", "2000", "--runtime", "ray", "--out", str(tmp_path)]
    # In a new session, so that the signal goes to all processes of the run, like Ctrl-C in a terminal.
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
            os.killpg(run.pid, signal.SIGINT)
            output = run.communicate(timeout=PATIENCE_S)[0].decode()
        finally:
            run.kill()
    assert run.returncode == 130, output
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
