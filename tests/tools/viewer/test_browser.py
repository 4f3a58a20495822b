"""Test of the live view in a real browser: a simulation serves its page and writes a recording."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from heal.tools.pictures.colors import AGENT_COLORS, SCORE_COLORS, TRUTH
from heal.tools.shared.paths import CONFIGS
from heal.types import UInt8
from tests.tools.command import restore_interrupts
from tests.tools.viewer.browser import PATIENCE_S, find_browser, pixels_like, screenshot

# Environment variable: a path for a picture of a longer run, such as docs/view.png.
KEEP = "HEAL_KEEP_SCREENSHOT"
SHORT = ("--ticks", "3", "--types", "m1,m3,m5", "--runtime", "local")
LONG = ("--ticks", "16", "--types", "m1,m2,m3,m5", "--fault", "crash:1002@3", "--set", "deployment.restart_ms=500")
LINK = "delay:40,jitter:30,loss:0.2"


@dataclass
class Simulation:
    """A running process of `heal simulate --view web` and its output folder."""

    process: subprocess.Popen[bytes]
    out: Path

    def printed(self, pattern: str) -> str:
        """Wait until the command has printed a pattern; return the pattern's first group."""
        ends = time.monotonic() + PATIENCE_S
        while time.monotonic() < ends:
            text = (self.out / "output.txt").read_text(encoding="utf-8")
            if found := re.search(pattern, text):
                return found[1]
            assert self.process.poll() is None, f"the command ended before it printed {pattern}:\n{text}"
            time.sleep(0.2)
        raise AssertionError(f"the command has not printed {pattern}:\n{text}")


@pytest.fixture
def browser() -> str:
    """Path of the browser; found before the simulation starts, so that a test without browser is skipped at once."""
    return find_browser()


@pytest.fixture
def simulation(browser: str, tmp_path: Path) -> Iterator[Simulation]:
    """A short simulation that serves its page and writes a recording."""
    words = ["--alliance", CONFIGS / "demo" / "alliance", "--seed", "3", "--link", LINK, *(LONG if KEEP in os.environ else SHORT)]
    shown = ["--view", "web", "--record", tmp_path / "run.rrd", "--out", tmp_path]
    command = [sys.executable, "-m", "heal.tools.cli", "simulate", *map(str, [*words, *shown])]
    with (tmp_path / "output.txt").open("wb") as output:
        env = {**os.environ, "COLUMNS": "400"}
        process = subprocess.Popen(command, stdout=output, stderr=output, env=env, preexec_fn=restore_interrupts)
        yield Simulation(process, tmp_path)
        process.kill()
        process.wait()


def test_a_run_is_shown_in_a_browser_and_recorded(browser: str, simulation: Simulation) -> None:
    page = screenshot(simulation.printed(r"(http://\S+)"), shows_a_run, browser)
    path = Path(os.environ.get(KEEP, simulation.out / "view.png"))
    Image.fromarray(page).save(path)
    assert shows_a_run(page), f"the page does not show the run; see {path}"
    assert np.median(page[: round(0.025 * len(page))]) < 60, "the bar at the top of the page is not dark"
    assert len(np.unique(scene_panel(page).reshape(-1, 3), axis=0)) > 1000
    # The page is served until Ctrl-C, after which the exit status is 0.
    assert simulation.printed(r"report: (\S+)") and simulation.process.poll() is None
    simulation.process.send_signal(signal.SIGINT)
    assert simulation.process.wait(PATIENCE_S) == 0
    assert (simulation.out / "report.html").exists() and (simulation.out / "run.rrd").stat().st_size > 300_000


def scene_panel(page: UInt8) -> UInt8:
    """Return the part of a page (H, W, 3) that shows the 3D scene."""
    height, width = page.shape[:2]
    return page[round(0.08 * height) : round(0.95 * height), : round(0.6 * width)]


def shows_a_run(page: UInt8) -> bool:
    """Return whether the scene has point clouds of two agents, detections and labels, by their colours."""
    scene = scene_panel(page)
    wanted = {AGENT_COLORS[0]: 500, AGENT_COLORS[1]: 200, SCORE_COLORS[1]: 200, TRUTH: 100}
    return all(pixels_like(scene, color) >= least for color, least in wanted.items())
