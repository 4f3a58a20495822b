"""`heal alliance statistics`: records what honest maps are like, without a change of the networks, and a defended run uses it."""

from __future__ import annotations

from pathlib import Path

from heal.agents.fusion.knowledge import NodeKnowledge
from heal.agents.options import RunOptions
from heal.alliance import load_alliance
from tests.agents.tiny_run import save_tiny_alliance
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
