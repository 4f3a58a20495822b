"""Pose noise: what it changes, how much, and that it can be repeated."""

from __future__ import annotations

import numpy as np
import pytest

from heal.pose_noise import NoisyPoses, PoseNoise
from heal.se3 import SE3_to_pose, pose_to_SE3
from heal.types import AgentFrame, ObjectLabels, SceneOutline, SensorChoice

POSE = [3400.0, 2100.0, 20.0, 1.0, 30.0, -2.0]


class TwoAgents:
    """A source of endless scenes in which nothing moves."""

    def __len__(self) -> int:  # noqa: D105
        return 1000

    def outline(self, index: int) -> SceneOutline:
        return SceneOutline(f"s/{index}", index, "a", ("a", "b"), pose_to_SE3(POSE))

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        return AgentFrame(agent_id, "vehicle", index, pose_to_SE3(POSE), pose_to_SE3(POSE))

    def scene_objects(self, index: int) -> ObjectLabels | None:
        return None


def errors(source: NoisyPoses, agent_id: str, count: int) -> np.ndarray:
    measured = [SE3_to_pose(source.agent_frame(i, agent_id).world_SE3_agent_measured) for i in range(count)]
    return np.array(measured) - np.array(POSE)


@pytest.mark.parametrize(("kind", "factor"), [("gaussian", 1.0), ("laplace", np.sqrt(2.0))])
def test_only_x_y_and_yaw_vary_as_told(kind: str, factor: float) -> None:
    noise = PoseNoise(kind=kind, position_std_m=0.4, rotation_std_deg=0.2, position_mean_m=0.1, rotation_mean_deg=-0.05)  # type: ignore[arg-type]
    found = errors(NoisyPoses(TwoAgents(), noise, seed=1), "a", 1000)
    np.testing.assert_allclose(found[:, [2, 3, 5]], 0.0, atol=1e-9)
    np.testing.assert_allclose(found.std(axis=0)[[0, 1, 4]], np.array([0.4, 0.4, 0.2]) * factor, rtol=0.12)
    np.testing.assert_allclose(found.mean(axis=0)[[0, 1, 4]], [0.1, 0.1, -0.05], atol=0.06)


def test_the_error_depends_on_seed_scene_and_agent_alone() -> None:
    noise = PoseNoise(position_std_m=0.5, rotation_std_deg=0.5)
    first, second = NoisyPoses(TwoAgents(), noise, seed=1), NoisyPoses(TwoAgents(), noise, seed=1)
    second.agent_frame(5, "b")
    np.testing.assert_array_equal(errors(first, "a", 3), errors(second, "a", 3))
    a, b, other = errors(first, "a", 3), errors(first, "b", 3), errors(NoisyPoses(TwoAgents(), noise, seed=2), "a", 3)
    assert not np.isclose(a[:, 0], b[:, 0]).any() and not np.isclose(a[:, 0], other[:, 0]).any()
    assert not np.isclose(a[0], a[1]).any(where=[True, True, False, False, True, False])


def test_the_true_pose_stays() -> None:
    source = NoisyPoses(TwoAgents(), PoseNoise(position_std_m=1.0), seed=0)
    np.testing.assert_array_equal(source.agent_frame(0, "a").world_SE3_agent, pose_to_SE3(POSE))
    np.testing.assert_array_equal(source.outline(0).world_SE3_ego, pose_to_SE3(POSE))
    assert len(source) == 1000 and source.scene_objects(0) is None


def test_no_noise_changes_nothing() -> None:
    np.testing.assert_allclose(errors(NoisyPoses(TwoAgents(), PoseNoise(), seed=3), "a", 2), 0.0, atol=1e-9)
