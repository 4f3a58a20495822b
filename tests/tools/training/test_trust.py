"""The trust in a new type: chosen on validation scenes, written into its card, and no part of its hash."""

import io
import shutil
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from heal.agent_model import AgentModel
from heal.alliance import Alliance, TrainingRecord, load_alliance, save_agent, save_base
from heal.datasets.dataset import DatasetError
from heal.datasets.in_memory import ScenesInMemory
from heal.tools.training import trust
from heal.tools.training.trust import LEVELS, calibrate_trust, choose_trust
from heal.training.config import ScheduleConfig
from heal.types import AgentFrame, Scene, SensorChoice
from tests.heal.networks import small_model, small_scene


@pytest.fixture
def alliance(tmp_path: Path) -> Alliance:
    """Return an alliance of a base and m1, which it was trained with, with random weights."""
    torch.manual_seed(0)
    model = small_model()
    with torch.no_grad():
        model.base.cls_head.bias.fill_(0.0)  # so that there are detections
    base_hash = save_base(tmp_path, model.base, TrainingRecord(agent_types=("m1",)))
    save_agent(tmp_path, "m1", model.agent("m1"), base_hash, TrainingRecord())
    return load_alliance(tmp_path)


class _Damaged(ScenesInMemory):
    """Scenes of which some cannot be read."""

    def __init__(self, scenes: list[Scene], damaged: Collection[int]) -> None:
        super().__init__(scenes)
        self.damaged = damaged

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        if index in self.damaged:
            raise DatasetError(Path("town"), f"scene {index} cannot be read")
        return super().agent_frame(index, agent_id, choice)


def _new_type() -> AgentModel:
    torch.manual_seed(1)
    return small_model().agent("m1")


def _calibrated(
    alliance: Alliance, source: ScenesInMemory | None, training: ScheduleConfig | None = None, otherwise: float = 1.0
) -> tuple[float, str]:
    shown = io.StringIO()
    found = calibrate_trust(
        alliance, "new", _new_type(), source, training or ScheduleConfig(), Console(file=shown, width=300), otherwise
    )
    return found, shown.getvalue()


def test_the_best_trust_is_chosen_and_a_tie_goes_to_the_higher_one() -> None:
    assert choose_trust({1.0: 0.5, 0.3: 0.6, 0.1: 0.6, 0.03: 0.4}) == 0.3
    assert choose_trust({1.0: 0.5, 0.3: 0.501, 0.1: 0.4, 0.03: 0.4}) == 1.0


def test_every_trust_is_scored_on_scenes_with_partners(alliance: Alliance) -> None:
    found, shown = _calibrated(alliance, ScenesInMemory([small_scene(seed, agents=2, cars=3) for seed in range(3)]))
    assert found in LEVELS and f"the trust in new is {found:g}" in shown
    assert all(f"{level:g}: 0." in shown for level in LEVELS)


@pytest.mark.parametrize(
    ("source", "reason"),
    [(None, "no validation scenes"), (ScenesInMemory([small_scene(0, agents=1)]), "no scene has a partner")],
)
def test_without_anything_to_compare_the_trust_is_that_of_before(
    alliance: Alliance, source: ScenesInMemory | None, reason: str
) -> None:
    for before in (1.0, 0.3):
        found, shown = _calibrated(alliance, source, otherwise=before)
        assert found == before and f"the trust in new is {before:g}: " in shown and reason in shown


def test_only_agents_that_may_be_of_the_type_are_partners(alliance: Alliance) -> None:
    scene = small_scene(0, agents=2, cars=3)  # both agents are vehicles
    assert "no scene has a partner" in _calibrated(alliance, ScenesInMemory([scene]), ScheduleConfig(agents_of="roadside"))[1]


def test_a_type_is_weighed_as_a_partner_and_as_the_ego() -> None:
    outline, every, roadside = small_scene(0, agents=2).outline, ScheduleConfig(), ScheduleConfig(agents_of="roadside")
    ego, other = outline.ego_first
    assert trust._as_partners("new", "m1", every)(outline) == {ego: "m1", other: "new"}
    assert trust._as_ego("new", "m1", every)(outline) == {ego: "new", other: "m1"}
    assert trust._as_ego("new", "m1", roadside)(outline) == {}


def test_a_scene_that_cannot_be_read_is_left_out_alone(alliance: Alliance) -> None:
    scenes = [small_scene(seed, agents=2, cars=3) for seed in range(3)]
    found, shown = _calibrated(alliance, _Damaged(scenes, {1}))
    assert found == _calibrated(alliance, ScenesInMemory([scenes[0], scenes[2]]))[0] and "mean AP beside m1" in shown
    assert "a scene is left out of the search for the trust: town: scene 1 cannot be read" in shown
    found, shown = _calibrated(alliance, _Damaged(scenes, {0, 1, 2}), otherwise=0.3)
    assert found == 0.3 and "the trust in new is 0.3: town: scene 2 cannot be read" in shown


def test_without_another_type_there_is_nothing_to_weigh_against(alliance: Alliance) -> None:
    shutil.rmtree(alliance.path / "m1")
    assert "no agent type is aligned to its base" in _calibrated(alliance, ScenesInMemory([small_scene(0, agents=2)]))[1]


def test_a_type_cannot_be_weighed_against_itself(alliance: Alliance) -> None:
    (alliance.path / "m1").rename(alliance.path / "new")
    found, shown = _calibrated(alliance, ScenesInMemory([small_scene(0, agents=2)]), otherwise=0.3)
    assert found == 0.3 and "it is the ego's own type" in shown


def test_the_trust_stands_in_the_card_and_the_hash_stays(alliance: Alliance) -> None:
    before = alliance.agent_card("m1")
    save_agent(alliance.path, "m1", alliance.agent("m1"), alliance.base_hash, TrainingRecord(), trust=0.3)
    opened = load_alliance(alliance.path)
    assert opened.agent_card("m1") == replace(before, trust=0.3) and opened.trust_of("m1") == 0.3
    opened.agent("m1")  # checks the hash
