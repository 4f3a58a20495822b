"""A range in z for an evaluation selects boxes; what the networks are fed stays as they were trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from heal.alliance import Alliance, load_alliance
from heal.config import ConfigError
from heal.detection.ground_truth import ground_truth
from heal.tools.training.settings import resolve_agent_settings
from heal.types import AgentFrame, CameraView, LidarScan
from tests.heal.networks import small_scene

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
DEMO = CONFIGS / "demo" / "alliance"
HEIGHTS = [(-4.0, 0.0), (-3.0, 3.0)]


def opened(z_min: float, z_max: float) -> Alliance:
    return load_alliance(DEMO, (-25.6, -25.6, z_min, 25.6, 25.6, z_max))


def frame_of(name: str, alliance: Alliance) -> AgentFrame:
    rng = np.random.default_rng(0)
    points = rng.uniform((-25, -25, -5, 0), (25, 25, 4, 1), (5000, 4)).astype(np.float32)
    image = rng.integers(0, 255, (120, 160, 3), np.uint8)
    forward = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    cameras = (CameraView("camera0", image, np.array([[80.0, 0, 80], [0, 80, 60], [0, 0, 1]]), forward),)
    uses_lidar = alliance.agent(name).sensor.lidar
    scan = LidarScan(points) if uses_lidar else None
    return AgentFrame("a", "vehicle", 0, np.eye(4), np.eye(4), scan, () if uses_lidar else cameras)


@pytest.mark.parametrize("name", ["m1", "m2", "m3"])
def test_features_do_not_depend_on_the_height_of_the_range(name: str) -> None:
    trained = opened(-3.0, 1.0)
    frame = frame_of(name, trained)
    with torch.no_grad():
        expected = trained.agent(name)(trained.agent(name).prepare([frame]))
        assert expected.abs().max() > 0.1
        for z_min, z_max in HEIGHTS:
            agent = opened(z_min, z_max).agent(name)
            assert torch.equal(agent(agent.prepare([frame])), expected)


def test_the_height_of_the_range_selects_objects() -> None:
    scene = small_scene(0)
    assert [len(ground_truth(scene, opened(*z).grid.range_m).ids) for z in ((-3.0, 1.0), (-1.0, 1.0))] == [3, 0]


def test_a_type_is_not_trained_on_another_range_than_its_base() -> None:
    alliance, files = load_alliance(DEMO), (CONFIGS / "demo" / "agents" / "m3.yaml", CONFIGS / "demo" / "agent.yaml")
    assert resolve_agent_settings(files[0], alliance, files[1], []).base.grid == alliance.grid
    with pytest.raises(ConfigError, match=r"--set base.*frozen"):
        resolve_agent_settings(files[0], alliance, files[1], ["base.grid.range_m=[-51.2,-51.2,-4,51.2,51.2,0]"])
