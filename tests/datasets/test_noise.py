"""Noise of poses and clocks: the changed values, their spreads, and that equal seeds give equal noise."""

from __future__ import annotations

import numpy as np
import pytest

from heal.datasets.noise import ClockNoise, NoisySource, SensorNoise
from heal.pose_noise import PoseNoise
from heal.se3 import SE3_to_pose, pose_to_SE3
from heal.types import AgentFrame, ObjectLabels, SceneOutline, SceneSource, SensorChoice

POSE = [3400.0, 2100.0, 20.0, 1.0, 30.0, -2.0]


class TwoAgents:
    """A source of 1000 scenes in which nothing moves."""

    def __len__(self) -> int:  # noqa: D105
        return 1000

    def outline(self, index: int) -> SceneOutline:
        return SceneOutline(f"s/{index}", index, "a", ("a", "b"), pose_to_SE3(POSE))

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        return AgentFrame(agent_id, "vehicle", index, pose_to_SE3(POSE), pose_to_SE3(POSE))

    def scene_objects(self, index: int) -> ObjectLabels | None:
        return None


def noisy_poses(noise: PoseNoise, seed: int) -> NoisySource:
    return NoisySource(TwoAgents(), SensorNoise(pose=noise), seed)


def noisy_clocks(seed: int, offset_std_ms: float = 20.0, jitter_std_ms: float = 0.0) -> NoisySource:
    clock = ClockNoise(offset_std_ms=offset_std_ms, jitter_std_ms=jitter_std_ms)
    return NoisySource(TwoAgents(), SensorNoise(clock=clock), seed)


def errors(source: SceneSource, agent_id: str, count: int) -> np.ndarray:
    measured = [SE3_to_pose(source.agent_frame(i, agent_id).world_SE3_agent_measured) for i in range(count)]
    return np.array(measured) - np.array(POSE)


@pytest.mark.parametrize(("kind", "factor"), [("gaussian", 1.0), ("laplace", np.sqrt(2.0))])
def test_only_x_y_and_yaw_vary_as_told(kind: str, factor: float) -> None:
    noise = PoseNoise(kind=kind, position_std_m=0.4, rotation_std_deg=0.2, position_mean_m=0.1, rotation_mean_deg=-0.05)  # type: ignore[arg-type]
    found = errors(noisy_poses(noise, seed=1), "a", 1000)
    np.testing.assert_allclose(found[:, [2, 3, 5]], 0.0, atol=1e-9)
    np.testing.assert_allclose(found.std(axis=0)[[0, 1, 4]], np.array([0.4, 0.4, 0.2]) * factor, rtol=0.12)
    np.testing.assert_allclose(found.mean(axis=0)[[0, 1, 4]], [0.1, 0.1, -0.05], atol=0.06)


def test_the_error_depends_on_seed_scene_and_agent_alone() -> None:
    noise = PoseNoise(position_std_m=0.5, rotation_std_deg=0.5)
    first, second = noisy_poses(noise, seed=1), noisy_poses(noise, seed=1)
    second.agent_frame(5, "b")
    np.testing.assert_array_equal(errors(first, "a", 3), errors(second, "a", 3))
    a, b, other = errors(first, "a", 3), errors(first, "b", 3), errors(noisy_poses(noise, seed=2), "a", 3)
    assert not np.isclose(a[:, 0], b[:, 0]).any() and not np.isclose(a[:, 0], other[:, 0]).any()
    assert not np.isclose(a[0], a[1]).any(where=[True, True, False, False, True, False])


def test_the_true_pose_stays() -> None:
    source = noisy_poses(PoseNoise(position_std_m=1.0), seed=0)
    np.testing.assert_array_equal(source.agent_frame(0, "a").world_SE3_agent, pose_to_SE3(POSE))
    np.testing.assert_array_equal(source.outline(0).world_SE3_ego, pose_to_SE3(POSE))
    assert len(source) == 1000 and source.scene_objects(0) is None


def test_no_noise_changes_nothing() -> None:
    np.testing.assert_allclose(errors(noisy_poses(PoseNoise(), seed=3), "a", 2), 0.0, atol=1e-9)


def clock_errors_ms(source: SceneSource, agent_id: str, scenes: range = range(200)) -> np.ndarray:
    return np.array([(source.agent_frame(i, agent_id).timestamp_ns - i) / 1e6 for i in scenes])


def test_a_clock_is_off_by_the_same_all_the_time() -> None:
    source = noisy_clocks(seed=1)
    offsets = set(clock_errors_ms(source, "b"))
    assert len(offsets) == 1 and 0 < abs(offsets.pop()) < 100
    frame, true = source.agent_frame(5, "b"), TwoAgents().agent_frame(5, "b")
    np.testing.assert_array_equal(frame.world_SE3_agent_measured, true.world_SE3_agent_measured)
    assert source.outline(5).timestamp_ns == 5


def test_offsets_are_spread_over_the_agents_as_told() -> None:
    source = noisy_clocks(seed=1)
    offsets = np.array([clock_errors_ms(source, f"agent {i}", range(1))[0] for i in range(1000)])
    assert abs(offsets.mean()) < 2 and 18 < offsets.std() < 22
    other = noisy_clocks(seed=2)
    assert clock_errors_ms(other, "b", range(1)) != clock_errors_ms(source, "b", range(1))


def test_a_clock_may_jitter_from_frame_to_frame() -> None:
    jittering = clock_errors_ms(noisy_clocks(seed=1, jitter_std_ms=3), "b", range(1000))
    offset = clock_errors_ms(noisy_clocks(seed=1), "b", range(1))[0]
    assert 2.7 < jittering.std() < 3.3 and abs(jittering.mean() - offset) < 0.4


def test_the_egos_clock_is_the_reference() -> None:
    assert not clock_errors_ms(noisy_clocks(seed=1, jitter_std_ms=3), "a").any()


def test_words_make_one_source_of_all_noise() -> None:
    noise = SensorNoise.parse("position:0.2, rotation:0.1,kind:laplace,clock:20,clock_jitter:3")
    assert noise.pose == PoseNoise(kind="laplace", position_std_m=0.2, rotation_std_deg=0.1)
    assert noise.clock == ClockNoise(offset_std_ms=20, jitter_std_ms=3)
    source = noise.around(TwoAgents(), 1)
    np.testing.assert_array_equal(errors(source, "b", 5), errors(noisy_poses(noise.pose, 1), "b", 5))
    np.testing.assert_array_equal(clock_errors_ms(source, "b"), clock_errors_ms(noisy_clocks(seed=1, jitter_std_ms=3), "b"))
    assert len(source) == 1000 and source.scene_objects(0) is None


def test_no_words_of_noise_leave_the_source_as_it_is() -> None:
    source = TwoAgents()
    for text in ("none", "position:0", "kind:laplace,clock:0"):
        assert SensorNoise.parse(text).around(source, 1) is source


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "none, position:..., rotation:..., kind:..., clock:..., clock_jitter:..."),
        ("positon:1", "'positon:1' is not one of"),
        ("clock", "'clock' is not one of"),
        ("clock:1,clock:2", "each at most once"),
        ("none,clock:1", "none stands alone"),
        ("position:far", "expected a number after position:, got 'far'"),
        ("position:nan", "expected a finite number"),
        ("rotation:-1", "expected spreads from 0"),
        ("kind:cauchy,position:1", "gaussian, laplace, got 'cauchy'"),
    ],
)
def test_bad_words_of_noise_are_refused_with_what_is_possible(text: str, told: str) -> None:
    with pytest.raises(ValueError, match="noise") as refusal:
        SensorNoise.parse(text)
    assert told in str(refusal.value)
