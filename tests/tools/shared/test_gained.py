"""The picture of what an agent adds is of the scene in which it adds most, and there is none where it adds nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from heal.agent_types import same_type
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.datasets.town import TownSource
from heal.detection.metrics import ApAccumulator
from heal.tools.shared import gained
from heal.tools.shared.gained import draw_gains
from tests.agents.tiny_run import TinyAlliance
from tests.heal.measures.made_matches import flagged

TICKS = (1, 3, 4)


def accumulated(*found: list[bool]) -> ApAccumulator:
    """Return matches of scenes that say which objects were found at IoU 0.5; at the other thresholds the opposite was found."""
    ap = ApAccumulator()
    for flags in found:
        ap.add_match(flagged(np.ones(len(flags)), np.array([np.invert(flags), flags, np.invert(flags)]), len(flags)))
    return ap


def test_the_scene_with_the_largest_gain_is_drawn_with_both_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drawn: list[tuple[int, int, int, int, tuple[str, str]]] = []

    def draw(fewer: TickResult, more: TickResult, range_m: object, path: Path, captions: tuple[str, str], margin: str) -> None:
        assert fewer.views and more.views
        assert margin == "made by"
        drawn.append((fewer.tick, len(fewer.messages), more.tick, len(more.messages), captions))

    monkeypatch.setattr(gained, "draw_comparison", draw)
    none, one, two = [False, False], [True, False], [True, True]
    runs = {
        "m1": (RunOptions(agents=1), accumulated(one, none, none)),
        "m1 + m2": (RunOptions(agents=2), accumulated(one, one, two)),
        "m1 + m2 + m3": (RunOptions(agents=3), accumulated(one, none, two)),
    }
    pictures = draw_gains(TinyAlliance(), TownSource("test", seed=1, ticks=5), same_type("m1"), TICKS, runs, tmp_path, "made by")
    assert pictures == [tmp_path / "gain_2.png"]
    assert drawn == [(4, 1, 4, 2, ("m1", "m1 + m2"))]
