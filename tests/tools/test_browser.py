"""The live view as people see it: a run, served as a page, in a real browser."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from heal.agents.link_spec import LinkSpec
from heal.agents.local_runtime import LocalRuntime
from heal.agents.records import RunOptions
from heal.alliance import load_alliance
from heal.datasets.town import PRESETS, TownSource
from heal.tools.assigning import in_turn
from heal.tools.bev import AGENT_COLORS, SCORE_COLORS, TRUTH
from heal.tools.paths import CONFIGS
from heal.tools.view import open_viewer
from heal.types import UInt8
from tests.tools.browser import find_browser, pixels_like, screenshot

# Set to a path, the picture is kept there: docs/view.png is made so.
KEEP = "HEAL_KEEP_SCREENSHOT"
TYPES = ("m1", "m3", "m5")
TICKS = 3


def scene_panel(page: UInt8) -> UInt8:
    """The part of a page, (H, W, 3), that shows the scene in 3D."""
    height, width = page.shape[:2]
    return page[round(0.08 * height) : round(0.95 * height), : round(0.6 * width)]


def shows_a_run(page: UInt8) -> bool:
    """The scene is there: clouds of two agents, detections, labels."""
    scene = scene_panel(page)
    wanted = {AGENT_COLORS[0]: 500, AGENT_COLORS[1]: 200, SCORE_COLORS[1]: 200, TRUTH: 100}
    return all(pixels_like(scene, color) >= least for color, least in wanted.items())


@pytest.fixture
def browser() -> str:
    """Looked for before anything is computed."""
    return find_browser()


def test_a_run_is_seen_in_a_browser_and_recorded_at_once(browser: str, tmp_path: Path) -> None:
    alliance, record = load_alliance(CONFIGS / "demo" / "alliance"), tmp_path / "run.rrd"
    source = TownSource(PRESETS["demo"], seed=3, ticks=TICKS, split="test")
    network = LinkSpec.parse("delay:40,jitter:30,loss:0.2").network(4)
    with (
        open_viewer("web", record, alliance.grid.range_m, source.scenario) as viewer,
        LocalRuntime(alliance, source, in_turn(TYPES, alliance), network, RunOptions(keep_views=viewer.wants_views)) as runtime,
    ):
        for result in runtime.run(range(TICKS)):
            viewer.add(result)
        assert viewer.address is not None
        page = screenshot(viewer.address, shows_a_run, browser)
    path = Path(os.environ.get(KEEP, tmp_path / "view.png"))
    Image.fromarray(page).save(path)
    assert shows_a_run(page), f"the page does not show the run; see {path}"
    assert len(np.unique(scene_panel(page).reshape(-1, 3), axis=0)) > 1000
    assert record.stat().st_size > TICKS * 100_000
