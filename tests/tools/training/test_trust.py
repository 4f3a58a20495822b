"""The trust in a new type: chosen on validation scenes, written into its card, and no part of its hash."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from heal.alliance import Alliance, TrainingRecord, load_alliance, save_agent, save_base, save_trust
from heal.tools.training import trust
from heal.tools.training.trust import LEVELS, calibrate_trust, choose_trust
from heal.training.config import ScheduleConfig
from tests.heal.networks import SceneList, small_model, small_scene


@pytest.fixture
def alliance(tmp_path: Path) -> Alliance:
    """Return an alliance whose base was trained with m1, and a type `new`, both with random weights."""
    torch.manual_seed(0)
    model = small_model()
    with torch.no_grad():
        model.base.cls_head.bias.fill_(0.0)  # so that there are detections
    base_hash = save_base(tmp_path, model.base, TrainingRecord(agent_types=("m1",)))
    for name in ("m1", "new"):
        save_agent(tmp_path, name, small_model().agent("m1") if name == "new" else model.agent("m1"), base_hash, TrainingRecord())
    return load_alliance(tmp_path)


def _calibrated(
    alliance: Alliance, source: SceneList | None, training: ScheduleConfig | None = None, otherwise: float = 1.0
) -> tuple[float, str]:
    shown = io.StringIO()
    found = calibrate_trust(alliance, "new", source, training or ScheduleConfig(), Console(file=shown, width=200), otherwise)
    return found, shown.getvalue()


def test_the_best_trust_is_chosen_and_a_tie_goes_to_the_higher_one() -> None:
    assert choose_trust({1.0: 0.5, 0.3: 0.6, 0.1: 0.6, 0.03: 0.4}) == 0.3
    assert choose_trust({1.0: 0.5, 0.3: 0.501, 0.1: 0.4, 0.03: 0.4}) == 1.0


def test_every_trust_is_scored_on_scenes_with_partners(alliance: Alliance) -> None:
    found, shown = _calibrated(alliance, SceneList([small_scene(seed, agents=2, cars=3) for seed in range(3)]))
    assert found in LEVELS and f"the trust in new is {found:g}" in shown
    assert all(f"{level:g}: 0." in shown for level in LEVELS)


@pytest.mark.parametrize(
    ("source", "reason"),
    [(None, "no validation scenes"), (SceneList([small_scene(0, agents=1)]), "no scene has a partner")],
)
def test_without_anything_to_compare_the_trust_is_that_of_before(alliance: Alliance, source: SceneList | None, reason: str) -> None:
    for before in (1.0, 0.3):
        found, shown = _calibrated(alliance, source, otherwise=before)
        assert found == before and f"the trust in new is {before:g}: " in shown and reason in shown


def test_only_agents_that_may_be_of_the_type_are_partners(alliance: Alliance) -> None:
    scene = small_scene(0, agents=2, cars=3)  # both agents are vehicles
    assert "no scene has a partner" in _calibrated(alliance, SceneList([scene]), ScheduleConfig(agents_of="roadside"))[1]


def test_a_type_is_weighed_as_a_partner_and_as_the_ego() -> None:
    outline, every, roadside = small_scene(0, agents=2).outline, ScheduleConfig(), ScheduleConfig(agents_of="roadside")
    ego, other = outline.ego_first
    assert trust._as_partners("new", "m1", every)(outline) == {ego: "m1", other: "new"}
    assert trust._as_ego("new", "m1", every)(outline) == {ego: "new", other: "m1"}
    assert trust._as_ego("new", "m1", roadside)(outline) == {}


def test_the_base_without_its_own_type_cannot_calibrate(alliance: Alliance) -> None:
    alliance.card = replace(alliance.card, training=TrainingRecord(agent_types=("gone",)))
    assert "the base's own agent type is not in the alliance" in _calibrated(alliance, SceneList([small_scene(0, agents=2)]))[1]


def test_a_type_cannot_be_weighed_against_itself(alliance: Alliance) -> None:
    alliance.card = replace(alliance.card, training=TrainingRecord(agent_types=("new",)))
    found, shown = _calibrated(alliance, SceneList([small_scene(0, agents=2)]), otherwise=0.3)
    assert found == 0.3 and "it is the ego's own type" in shown


def test_the_trust_stands_in_the_card_and_the_hash_stays(alliance: Alliance) -> None:
    before = alliance.agent_card("new")
    save_trust(alliance.path, "new", 0.3)
    opened = load_alliance(alliance.path)
    assert opened.agent_card("new") == replace(before, trust=0.3) and opened.trust_of("new") == 0.3
    opened.agent("new")  # checks the hash
