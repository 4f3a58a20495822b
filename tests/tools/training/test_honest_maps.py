"""The statistics of honest maps that a training records: of its types, in its scenes, and none where that says nothing."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from heal.alliance import Alliance, TrainingRecord, load_alliance, save_agent, save_base
from heal.datasets.dataset import DatasetError
from heal.datasets.in_memory import ScenesInMemory
from heal.defence.agreement import FEWEST_CELLS, Agreement
from heal.defence.recording import StatisticsRecorder
from heal.defence.statistics import MapStatistics
from heal.layers.inference import for_inference
from heal.tools.archive.recording import HonestMaps
from heal.tools.training.honest_maps import statistics_of_agent, statistics_of_base
from heal.training.config import TrainingConfig
from heal.types import AgentFrame, SceneSource, SensorChoice
from tests.heal.networks import AGENT, small_model, small_scene
from tests.tools.training.small_training import SETTINGS

SCENES = [small_scene(seed, agents=3) for seed in range(10)]
FEW_BEAMS = replace(AGENT, lidar_beams=32)


class _Job:
    """A training of a type, with its scenes and those of its validation in memory."""

    def __init__(self, name: str, scenes: SceneSource, validation: SceneSource | None = None, settings: TrainingConfig = SETTINGS):
        self.name, self.settings = name, replace(settings, agents={name: AGENT})
        self._scenes, self._validation = scenes, validation

    def open(self) -> SceneSource:
        return self._scenes

    def open_validation(self) -> SceneSource | None:
        return self._validation


class _Watched(ScenesInMemory):
    """Scenes that note which are read, and have no sensor data of some choices."""

    def __init__(self, scenes: Sequence[object], missing: SensorChoice | None = None) -> None:
        super().__init__(scenes)  # type: ignore[arg-type]
        self.read, self.missing = list[tuple[int, str]](), missing

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        if choice is not None and choice == self.missing:
            raise DatasetError(Path("town"), "the cloud of all lines is missing")
        self.read.append((index, agent_id))
        return super().agent_frame(index, agent_id, choice)


@pytest.fixture
def alliance(tmp_path: Path) -> Alliance:
    """Return an alliance of a base and m1, which it was trained with, with random weights."""
    torch.manual_seed(0)
    model = small_model()
    base_hash = save_base(tmp_path, model.base, TrainingRecord(agent_types=("m1",)))
    save_agent(tmp_path, "m1", model.agent("m1"), base_hash, TrainingRecord())
    return load_alliance(tmp_path)


def _of_agent(alliance: Alliance, job: _Job) -> tuple[dict[str, MapStatistics], str]:
    torch.manual_seed(1)
    shown = io.StringIO()
    found = statistics_of_agent(alliance, small_model().agent("m1"), job, Console(file=shown, width=300))  # type: ignore[arg-type]
    return found, shown.getvalue()


def test_a_new_type_is_recorded_in_the_scenes_of_its_training_and_of_its_validation(alliance: Alliance) -> None:
    found, shown = _of_agent(alliance, _Job("new", ScenesInMemory(SCENES[:6]), ScenesInMemory(SCENES[6:])))
    torch.manual_seed(1)
    networks = {"new": for_inference(small_model().agent("m1")), "m1": for_inference(alliance.agent("m1"))}
    expected = HonestMaps(for_inference(alliance.base), networks, "m1")
    for index in range(10):
        expected.add(ScenesInMemory(SCENES), index)
    assert found == {"new": expected.statistics("new")} and found["new"].maps == 30
    assert "30 maps of new are recorded for the defence" in shown


def test_the_types_of_a_base_are_recorded(alliance: Alliance) -> None:
    model, shown = small_model(), io.StringIO()
    found = statistics_of_base(model, _Job("m1", ScenesInMemory(SCENES)), Console(file=shown))  # type: ignore[arg-type]
    assert set(found) == {"m1"} and found["m1"].maps == 30


def test_too_few_maps_are_no_statistics_and_stop_no_training(alliance: Alliance) -> None:
    found, shown = _of_agent(alliance, _Job("new", ScenesInMemory(SCENES[:6])))
    assert found == {} and "\n" not in shown.strip()
    assert "no maps of new are recorded for the defence: statistics: expected at least 20 maps, better 100 or more, got 18" in shown


def test_only_agents_that_take_part_in_the_training_are_recorded(alliance: Alliance) -> None:
    egos = replace(SETTINGS, training=replace(SETTINGS.training, agents_of="ego"))
    found, _ = _of_agent(alliance, _Job("new", ScenesInMemory(SCENES * 3), settings=egos))
    assert found["new"].maps == 30


@pytest.mark.parametrize(("scenes", "of_training", "of_validation"), [(4, {0, 2, 4}, {0}), (0, set(), set())])
def test_scenes_are_spread_over_the_training_and_the_validation(
    alliance: Alliance, scenes: int, of_training: set[int], of_validation: set[int]
) -> None:
    training, validation = _Watched(SCENES[:6]), _Watched(SCENES[6:8])
    settings = replace(SETTINGS, training=replace(SETTINGS.training, recorded_scenes=scenes))
    _of_agent(alliance, _Job("new", training, validation, settings))
    assert ({index for index, _ in training.read}, {index for index, _ in validation.read}) == (of_training, of_validation)


def test_a_new_type_is_recorded_where_the_type_beside_it_has_no_sensor_data(alliance: Alliance) -> None:
    whole, _ = _of_agent(alliance, _Job("new", ScenesInMemory(SCENES)))
    torch.manual_seed(1)
    few, shown = small_model().agent("m1"), io.StringIO()
    few.config = FEW_BEAMS
    source = _Watched(SCENES, missing=alliance.agent("m1").sensor)
    job = _Job("new", source)
    found = statistics_of_agent(alliance, few, job, Console(file=shown, width=300))  # type: ignore[arg-type]
    assert found["new"].feature == whole["new"].feature and found["new"].maps == 30
    assert "10 of 10 scenes are recorded for the defence in part: town: the cloud of all lines is missing" in shown.getvalue()


@pytest.mark.parametrize("of", ["points", "boxes"])
def test_types_that_send_no_maps_have_no_statistics(alliance: Alliance, of: str) -> None:
    merged = replace(SETTINGS, training=replace(SETTINGS.training, merge_points=of == "points"))
    if of == "boxes":
        alliance.base.config = replace(alliance.base.config, pyramid=replace(alliance.base.config.pyramid, single_agent=True))
    source = _Watched(SCENES)
    assert _of_agent(alliance, _Job("new", source, settings=merged)) == ({}, "") and source.read == []


def test_statistics_stand_in_the_card_and_the_hash_stays(alliance: Alliance) -> None:
    before, recorder = alliance.agent_card("m1"), StatisticsRecorder()
    for seed in range(20):
        maps = torch.randn(1, 8, 16, 32, generator=torch.Generator().manual_seed(seed))
        recorder.add_map(maps, [maps], [torch.ones(1, 1, 16, 32)])
        recorder.add_agreement(Agreement(FEWEST_CELLS, 0.9, FEWEST_CELLS, 0.8))
    found = recorder.statistics()
    save_agent(alliance.path, "m1", alliance.agent("m1"), alliance.base_hash, TrainingRecord(), statistics=found)
    opened = load_alliance(alliance.path)
    assert opened.agent_card("m1") == replace(before, statistics=found) and opened.statistics_of("m1") == found
    opened.agent("m1")  # checks the hash
