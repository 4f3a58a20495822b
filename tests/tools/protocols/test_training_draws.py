"""Trainings draw ego, agents and types as the paper's do: the statistics of a thousand draws with the shipped configurations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heal.config import ConfigError
from heal.datasets.in_memory import ScenesInMemory
from heal.se3 import SE3_to_pose
from heal.tools.shared.paths import config_path
from heal.tools.shared.sources import ReadOptions
from heal.tools.training.settings import reading_of, resolve_settings
from heal.training.batches import TrainingSteps, sensors_of
from heal.training.config import TrainingConfig
from heal.training.drawing import DrawnScene, draw_max_agents, draw_scene
from heal.types import Scene, SensorChoice, load_scene
from tests.datasets.dair import dair_tree
from tests.datasets.opv2v import opv2v_tree
from tests.heal.networks import AGENT, small_model, small_scene
from tests.tools.training.small_training import SETTINGS

DRAWS = 1000
VEHICLES = ("101", "102", "103", "104", "105", "106")
BASE = ["training.random_agents=false"]


def _settings(config: str, *overrides: str) -> TrainingConfig:
    return resolve_settings(config_path(config), None, [*BASE, *overrides])


def _draws(root: Path, split: str, settings: TrainingConfig, count: int = DRAWS) -> list[DrawnScene]:
    """Draw the first scene of a data set many times, opened as `heal train base` opens it; then it is kept in memory."""
    scenes = ScenesInMemory([load_scene(reading_of(settings, ReadOptions()).open(root, split), 0)])
    rng = np.random.default_rng(0)
    training, sensors = settings.training, sensors_of(settings)
    return [draw_scene(scenes, 0, draw_max_agents(training, rng), sensors, training, rng) for _ in range(count)]


def _egos(draws: Sequence[DrawnScene]) -> Counter[str]:
    return Counter(part.scene.outline.ego_id for part in draws)


def _near(count: int, share: float, of: int) -> bool:
    """Return whether a count is within four standard deviations of its expectation."""
    return abs(count - share * of) < 4 * (share * (1 - share) * of) ** 0.5


@pytest.fixture
def v2xset(tmp_path: Path) -> Path:
    """Write six vehicles and a roadside unit, 10 m from one to the next, in OPV2V's layout."""
    return opv2v_tree.write_tree(tmp_path, agents=(*VEHICLES, "-1"), stamps=("000068",))


def test_every_vehicle_is_the_ego_equally_often_and_the_roadside_unit_never(v2xset: Path) -> None:
    draws = _draws(v2xset, "test", _settings("base.yaml"))
    egos = _egos(draws)
    assert set(egos) == set(VEHICLES) and all(_near(count, 1 / 6, DRAWS) for count in egos.values())
    assert all(len(part.scene.frames) == 5 for part in draws)
    # Unless it came first and went to the end, which leaves one place in seven without it, it takes part as any other.
    assert _near(sum("-1" in part.scene.outline.agent_ids for part in draws), 4 / 7, DRAWS)


def test_a_roadside_unit_is_the_ego_where_it_is_alone_or_may_be_the_ego(v2xset: Path) -> None:
    alone = _settings("base.yaml", "training.agents_of=roadside")
    assert set(_egos(_draws(v2xset, "test", alone, 5))) == {"-1"}
    egos = _egos(_draws(v2xset, "test", _settings("base.yaml", "training.ego_of=any")))
    assert _near(egos["-1"], 1 / 7, DRAWS)


def test_the_ego_stays_where_it_is_not_drawn(v2xset: Path) -> None:
    draws = _draws(v2xset, "test", _settings("base.yaml", "training.random_ego=false"), 100)
    assert set(_egos(draws)) == {"101"}
    # The first five agents of the data set alone.
    assert {name for part in draws for name in part.scene.outline.agent_ids} == set(VEHICLES[:5])


def test_agents_out_of_range_are_passed_over_before_the_first_five_are_taken(v2xset: Path) -> None:
    draws = _draws(v2xset, "test", _settings("base.yaml", "training.comm_range_m=25", "training.max_agents=3"))
    for part in draws:
        ids = part.scene.outline.agent_ids
        places = [(*VEHICLES, "-1").index(name) for name in ids]
        assert len(ids) == 3 and max(abs(place - places[0]) for place in places) <= 2


@pytest.mark.parametrize("ground_truth", ["joint", "merged"])
def test_the_two_sides_of_dair_are_exchanged_half_of_the_time(tmp_path: Path, ground_truth: str) -> None:
    settings = _settings("dair.yaml", f"training.ground_truth={ground_truth}")
    draws = _draws(dair_tree.write_tree(tmp_path), "train", settings)
    egos = _egos(draws)
    assert set(egos) == {"vehicle", "roadside"} and _near(egos["roadside"], 0.5, DRAWS)
    assert all(len(part.scene.frames) == 2 for part in draws)


def test_types_follow_their_weights_and_the_ego_has_one_of_its_types(v2xset: Path) -> None:
    types = ["agents.m2={lidar_beams: 32}", "agents.m3={lidar_beams: 16}", "agents.m1={}"]
    weights = ["training.ego_types=[m1, m2]", "training.type_weights={m2: 1, m3: 3}"]
    draws = _draws(v2xset, "test", _settings("base.yaml", *types, *weights))
    of_egos = Counter(part.agent_types[part.scene.outline.ego_id] for part in draws)
    of_others = Counter(part.agent_types[frame.agent_id] for part in draws for frame in part.scene.ego_first[1:])
    assert set(of_egos) == {"m1", "m2"} and _near(of_egos["m1"], 0.5, DRAWS)
    assert set(of_others) == {"m2", "m3"} and _near(of_others["m3"], 0.75, 4 * DRAWS)
    draws = _draws(v2xset, "test", _settings("base.yaml", *types))
    everybody = Counter(name for part in draws for name in part.agent_types.values())
    assert all(_near(everybody[name], 1 / 3, 5 * DRAWS) for name in ("m1", "m2", "m3"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "training.ego_types=[m11]",
            r"training.ego_types: no agent type 'm11' among those of this training, m1; did you mean 'm1'",
        ),
        ("training.type_weights={camera: 1}", r"training.type_weights: no agent type 'camera'"),
        ("training.type_weights={m1: 0}", "expected type_weights of 0 or more, one of them above 0"),
        ("training.pose_noise_m=-1", "expected pose_noise_m and pose_noise_deg to be 0 or more"),
        ("training.range_m=[96, 48]", "training.range_m and training.fix_encoder are for `heal train agent`"),
    ],
)
def test_settings_that_cannot_be_are_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _settings("base.yaml", override)


def test_the_shuffle_is_another_one_in_every_epoch_and_the_same_in_every_process() -> None:
    scenes = _Recording([small_scene(0, agents=4), small_scene(1, agents=4)])
    settings = replace(SETTINGS, training=replace(SETTINGS.training, epochs=8, random_ego=True, random_agents=False))
    first, again = (_egos_of_steps(scenes, settings) for _ in range(2))
    assert first == again and len({tuple(sorted(egos.items())) for egos in first}) > 3


class _Recording(ScenesInMemory):
    """Scenes that note which frames are read."""

    def __init__(self, scenes: Sequence[Scene]) -> None:
        super().__init__(scenes)
        self.read: list[tuple[int, str]] = []

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> Any:
        self.read.append((index, agent_id))
        return super().agent_frame(index, agent_id, choice)


def _egos_of_steps(scenes: _Recording, settings: TrainingConfig) -> list[dict[int, str]]:
    """Return the ego of every scene in every epoch: the agent that is read first."""
    steps, egos = TrainingSteps(scenes, small_model(), settings), []
    for step in range(len(steps)):
        scenes.read.clear()
        steps[step]
        egos.append(dict(reversed(scenes.read)))
    return egos


def _noisy(**noise: Any) -> list[DrawnScene]:
    scene, training = small_scene(0, agents=3), replace(SETTINGS.training, random_ego=True, comm_range_m=1e3, **noise)
    source, sensors, rng = ScenesInMemory([scene]), {"m1": AGENT.sensor_in_training}, np.random.default_rng(0)
    return [draw_scene(source, 0, 3, sensors, training, rng) for _ in range(DRAWS)]


@pytest.mark.parametrize("kind", ["gaussian", "laplace"])
def test_every_agent_measures_its_pose_with_the_error_of_the_settings(kind: str) -> None:
    draws = _noisy(pose_noise=kind, pose_noise_m=0.4, pose_noise_deg=0.2)
    frames = [(frame, frame is part.scene.ego) for part in draws for frame in part.scene.frames]
    for egos in (True, False):
        of = [frame for frame, is_ego in frames if is_ego == egos]
        errors = np.array([SE3_to_pose(f.world_SE3_agent_measured) - SE3_to_pose(f.world_SE3_agent) for f in of])
        errors[:, 4] = (errors[:, 4] + 180) % 360 - 180
        factor = 2**0.5 if kind == "laplace" else 1.0
        np.testing.assert_allclose(errors[:, [0, 1, 4]].std(axis=0), np.array([0.4, 0.4, 0.2]) * factor, rtol=0.1)
        np.testing.assert_allclose(errors[:, [2, 3, 5]], 0.0, atol=1e-9)
    quiet = [part.scene.outline for part in _noisy()]
    assert [(o.ego_id, o.agent_ids) for o in quiet] == [(part.scene.outline.ego_id, part.scene.outline.agent_ids) for part in draws]


def test_the_range_of_communication_counts_between_measured_poses() -> None:
    scene = small_scene(0, agents=2)
    training = replace(SETTINGS.training, comm_range_m=20.0, pose_noise_m=50.0)
    source, rng = ScenesInMemory([scene]), np.random.default_rng(0)
    agents = [len(draw_scene(source, 0, 2, {"m1": AGENT.sensor_in_training}, training, rng).scene.frames) for _ in range(50)]
    assert set(agents) == {1, 2}
