"""`heal alliance statistics`: records what honest maps are like, without a change of the networks, and a defended run uses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heal.agents.fusion.knowledge import NodeKnowledge
from heal.agents.options import RunOptions
from heal.alliance import TrainingRecord, load_alliance, save_agent
from heal.tools.archive import recording
from tests.agents.tiny_run import TinyAlliance, save_tiny_alliance
from tests.tools.command import run_command


def test_statistics_are_recorded_beside_the_networks_and_read_by_a_defended_run(tmp_path: Path) -> None:
    folder = save_tiny_alliance(tmp_path / "alliance")
    before = load_alliance(folder).agent_card("m1")
    assert before.statistics is None and not NodeKnowledge.of(load_alliance(folder), RunOptions(defence="on")).statistics
    run_command("alliance", "statistics", folder, "--preset", "test", "--towns", "8")
    alliance = load_alliance(folder)
    card = alliance.agent_card("m1")
    assert card.statistics is not None and card.statistics.maps >= 20 and len(card.statistics.scales) == 2
    assert (card.hash, card.base_hash, card.config, card.trust) == (before.hash, before.base_hash, before.config, before.trust)
    assert NodeKnowledge.of(alliance, RunOptions(defence="on")).statistics == {"m1": card.statistics}
    assert not NodeKnowledge.of(alliance, RunOptions()).statistics


def test_all_types_are_recorded_from_towns_that_are_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, opened, open_source = save_tiny_alliance(tmp_path / "alliance"), list[int](), recording.open_source

    def counted(*place: Any, **options: Any) -> Any:
        opened.append(place[4])
        return open_source(*place, **options)

    monkeypatch.setattr(recording, "open_source", counted)
    options = ("--preset", "test", "--towns", "8", "--seed", "70")
    run_command("alliance", "statistics", folder, *options)
    alone, tiny = load_alliance(folder).statistics_of("m1"), TinyAlliance()
    save_agent(folder, "m2", tiny.agent("m2"), load_alliance(folder).base_hash, TrainingRecord())
    opened.clear()
    said = run_command("alliance", "statistics", folder, *options)
    assert opened == list(range(70, 78))
    both = load_alliance(folder)
    assert both.statistics_of("m1") == alone and both.statistics_of("m2") not in (None, alone)
    assert "m1: statistics of" in said and "m2: statistics of" in said
