"""The objects of a drawn scene: its own agents' labels, those of cameras where they are in view, or a file of its own."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from heal.config import save_config, to_plain
from heal.tools.shared.paths import config_path
from heal.tools.shared.sources import ReadOptions
from heal.tools.training.settings import reading_of, resolve_settings
from heal.training.batches import sensors_of
from heal.training.config import TrainingConfig
from heal.training.drawing import DrawnScene, draw_scene
from tests.datasets.dair import dair_tree
from tests.datasets.opv2v import opv2v_tree
from tests.heal.encoders.test_coverage import CAMERA
from tests.heal.networks import AGENT

# The second of the two vehicles that each agent of the tree labels: metres ahead and aside of the agent.
AHEAD = (10.0, 6.0)
WITHOUT_DEPTH = replace(CAMERA.encoder, depth_supervision=False)


def _settings(tmp_path: Path, config: str, *overrides: str) -> TrainingConfig:
    """Return the settings of a base with the types m1, a LiDAR, and c1, a camera."""
    file = tmp_path / "base.yaml"
    agents = {"agents": {"m1": to_plain(AGENT), "c1": to_plain(replace(CAMERA, encoder=WITHOUT_DEPTH))}}
    save_config(agents, file)
    file.write_text(file.read_text() + config_path(config).read_text())
    return resolve_settings(file, None, list(overrides))


def _drawn(root: Path, split: str, settings: TrainingConfig, max_agents: int = 2, seed: int = 0) -> DrawnScene:
    source = reading_of(settings, ReadOptions()).open(root, split)
    return draw_scene(source, 0, max_agents, sensors_of(settings), settings.training, np.random.default_rng(seed))


def _mark(path: Path, *places: tuple[float, float]) -> None:
    """Write a map of camera visibility with marked pixels, given in metres from the agent."""
    pixels = np.zeros((256, 256), np.uint8)
    for ahead_m, aside_m in places:
        pixels[127 - int(ahead_m / 0.39), 127 + int(aside_m / 0.39)] = 255
    Image.fromarray(pixels).save(path / "000068_bev_visibility.png")


@pytest.fixture
def opv2v(tmp_path: Path) -> Path:
    """Write two agents: agent 641 labels the vehicles 300 and 301 and sees none, agent 650 labels 301 and 302 and sees 302."""
    root = opv2v_tree.write_tree(tmp_path, stamps=("000068",))
    _mark(root / "test" / "scenario_a" / "641")
    _mark(root / "test" / "scenario_a" / "650", AHEAD)
    return root


def _only(agent_type: str) -> list[str]:
    return [f"training.ego_types=[{agent_type}]", f"training.type_weights={{{agent_type}: 1}}"]


def test_lidars_ask_for_all_that_they_list_and_cameras_for_what_they_see(opv2v: Path, tmp_path: Path) -> None:
    of_lidars = _drawn(opv2v, "test", _settings(tmp_path, "base.yaml", *_only("m1")))
    assert sorted(of_lidars.scene.objects.ids) == [300, 301, 302] and of_lidars.of_union
    of_cameras = _drawn(opv2v, "test", _settings(tmp_path, "base.yaml", *_only("c1")))
    assert len(of_cameras.scene.frames) == 2 and of_cameras.scene.objects.ids.tolist() == [302]
    mixed_settings = _settings(tmp_path, "base.yaml", "training.ego_types=[m1]", "training.type_weights={c1: 1}")
    mixed = [_drawn(opv2v, "test", mixed_settings, seed=seed).scene for seed in range(20)]
    found = {(scene.outline.ego_id, tuple(sorted(scene.objects.ids))) for scene in mixed}
    assert found == {("641", (300, 301, 302)), ("650", (301, 302))}


def test_an_agent_asks_alone_for_its_own_labels(opv2v: Path, tmp_path: Path) -> None:
    settings = _settings(tmp_path, "base.yaml", *_only("m1"))
    found = {tuple(sorted(_drawn(opv2v, "test", settings, 1, seed).scene.objects.ids)) for seed in range(10)}
    assert found == {(300, 301), (301, 302)}


def test_the_labels_of_the_cameras_can_be_those_of_lidars_and_the_other_way_round(opv2v: Path, tmp_path: Path) -> None:
    everything = _drawn(opv2v, "test", _settings(tmp_path, "base.yaml", *_only("c1"), "training.labels=lidar"))
    in_view = _drawn(opv2v, "test", _settings(tmp_path, "base.yaml", *_only("m1"), "training.labels=camera"))
    assert sorted(everything.scene.objects.ids) == [300, 301, 302] and in_view.scene.objects.ids.tolist() == [302]


@pytest.fixture
def dair(tmp_path: Path) -> Path:
    """Write a pair with complemented labels of the vehicle: one car of the front camera's labels, and a second one behind.

    The vehicle stands at (1000, 2000) and looks along +y, the roadside unit stands 10 m to the right and looks along -x. The
    roadside unit labels the first car half a metre beside the vehicle's label, and a car of its own.
    """
    root = dair_tree.write_tree(tmp_path / "dair")
    side = root / dair_tree.INNER / "vehicle-side" / "label"
    front = dair_tree.label("Car", 10, 0)
    dair_tree.write_json(side / "lidar" / "000010.json", [front])
    shutil.copytree(side / "lidar", side / "lidar_backup")
    dair_tree.write_json(side / "lidar" / "000010.json", [front, dair_tree.label("Car", -10, 0)])
    roadside = [dair_tree.label("Car", 10.5, -10), dair_tree.label("Car", 5, 8)]
    for car in roadside:
        car["3d_location"]["z"] = "-6.0"
    dair_tree.write_json(root / dair_tree.INNER / "infrastructure-side/label/virtuallidar/000003.json", roadside)
    return root


def _by_ego(root: Path, settings: TrainingConfig) -> dict[str, list[int]]:
    """Return the ids of the objects by the ego of a drawn scene."""
    drawn = [_drawn(root, "train", settings, seed=seed).scene for seed in range(12)]
    return {scene.outline.ego_id: sorted(scene.objects.ids.tolist()) for scene in drawn}


def test_merged_labels_keep_those_of_the_drawn_ego(dair: Path, tmp_path: Path) -> None:
    settings = _settings(tmp_path, "dair.yaml", *_only("m1"), "training.ground_truth=merged")
    assert _by_ego(dair, settings) == {"vehicle": [0, 1, 100_001], "roadside": [1, 100_000, 100_001]}


def test_cameras_of_dair_learn_the_labels_of_the_front_camera(dair: Path, tmp_path: Path) -> None:
    settings = _settings(tmp_path, "dair.yaml", *_only("c1"), "training.ground_truth=merged")
    assert _by_ego(dair, settings) == {"vehicle": [0, 100_001], "roadside": [100_000, 100_001]}
    front_alone = _settings(tmp_path, "dair.yaml", *_only("m1"), "training.labels=camera", "training.agents_of=vehicle")
    assert _by_ego(dair, front_alone) == {"vehicle": [0]}


def test_a_file_of_its_own_counts_where_both_sides_are_drawn(dair: Path, tmp_path: Path) -> None:
    drawn = _drawn(dair, "train", _settings(tmp_path, "dair.yaml", *_only("c1")))
    assert len(drawn.scene.objects) == 1 and not drawn.of_union
    np.testing.assert_allclose(drawn.scene.objects.world_corners.mean(axis=(0, 1))[:2], (1000.0, 2020.0))
    alone = _drawn(dair, "train", _settings(tmp_path, "dair.yaml", *_only("m1"), "training.agents_of=vehicle"), 1)
    assert alone.scene.objects.ids.tolist() == [0, 1] and alone.of_union
