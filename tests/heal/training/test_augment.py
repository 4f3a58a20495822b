"""Augmented scenes stay consistent: a point on a car is still on that car, whoever sees it."""

import numpy as np
import pytest

from heal.config import load_config
from heal.detection.ground_truth import objects_in_frame
from heal.se3 import inverse_SE3, pose_to_SE3, transform_points
from heal.tools.shared.paths import config_path
from heal.training.augment import AugmentConfig, augment, mirror, mirror_frame, rescale
from heal.training.config import TrainingConfig
from heal.types import AgentFrame, LidarScan, ObjectLabels, Scene, SceneOutline

SIGNS = np.array([(1, -1, -1), (1, 1, -1), (-1, 1, -1), (-1, -1, -1), (1, -1, 1), (1, 1, 1), (-1, 1, 1), (-1, -1, 1)])


def _scene() -> Scene:
    """Make a scene of two agents whose clouds are the eight corners of one car, each in its own frame."""
    car = transform_points(pose_to_SE3([20, 5, 0.8, 0, 30, 0]), SIGNS * np.array([2.2, 0.9, 0.75]))
    objects = ObjectLabels(np.array([7]), car[None])
    frames = []
    for agent_id, pose in (("1", [0, 0, 1.9, 0.3, 10, -0.4]), ("2", [35, 12, 1.7, -0.2, -120, 0.5])):
        world_SE3_agent = pose_to_SE3(pose)
        xyz = transform_points(inverse_SE3(world_SE3_agent), car)
        points = np.concatenate([xyz, np.full((8, 1), 0.4)], axis=1).astype(np.float32)
        frames.append(AgentFrame(agent_id, "vehicle", 0, world_SE3_agent, world_SE3_agent, LidarScan(points), (), objects))
    return Scene(SceneOutline("s", 0, "1", ("1", "2"), frames[0].world_SE3_agent), tuple(frames), objects)


def _world_points(frame: AgentFrame) -> np.ndarray:
    assert frame.lidar is not None
    return transform_points(frame.world_SE3_agent, frame.lidar.points[:, :3].astype(np.float64))


@pytest.mark.parametrize("seed", range(5))
def test_every_agent_still_sees_the_corners_of_the_labelled_car(seed: int) -> None:
    settings = AugmentConfig(flip=True, agent_yaw_deg=180, scale=0.1, height_m=0.3, tilt_deg=2, intensity=2)
    varied = augment(_scene(), settings, np.random.default_rng(seed))
    order = np.lexsort(varied.objects.world_corners[0].T.round(2))
    for frame in varied.frames:
        points = _world_points(frame)
        np.testing.assert_allclose(points[np.lexsort(points.T.round(2))], varied.objects.world_corners[0][order], atol=1e-3)
    np.testing.assert_array_equal(varied.outline.world_SE3_ego, varied.ego.world_SE3_agent)


def test_a_mirrored_car_is_a_car_again() -> None:
    corners = mirror(_scene()).objects.world_corners[0]
    forward, left = corners[0] - corners[3], corners[1] - corners[0]
    np.testing.assert_allclose([np.linalg.norm(forward), np.linalg.norm(left)], [4.4, 1.8], atol=1e-6)
    # Right-handed: the cross product of forward and left points up, as for every box of heal.box_corners.
    assert np.cross(forward, left)[2] > 0


def test_mirroring_twice_changes_nothing() -> None:
    scene, twice = _scene(), mirror(mirror(_scene()))
    np.testing.assert_allclose(twice.objects.world_corners, scene.objects.world_corners)
    for before, after in zip(scene.frames, twice.frames, strict=True):
        np.testing.assert_allclose(after.world_SE3_agent, before.world_SE3_agent)
        np.testing.assert_array_equal(after.lidar.points, before.lidar.points)


def test_rescaling_scales_distances() -> None:
    corners = rescale(_scene(), 1.5).objects.world_corners[0]
    np.testing.assert_allclose(np.linalg.norm(corners[0] - corners[3]), 6.6, atol=1e-6)


def test_equal_seeds_give_equal_scenes_and_the_defaults_change_nothing() -> None:
    settings = AugmentConfig(agent_yaw_deg=180, thin_points=0.5, jitter_m=0.02, intensity=2)
    first, second = (augment(_scene(), settings, np.random.default_rng(3)) for _ in range(2))
    for one, two in zip(first.frames, second.frames, strict=True):
        np.testing.assert_array_equal(one.lidar.points, two.lidar.points)
    same = augment(_scene(), AugmentConfig(), np.random.default_rng(0))
    np.testing.assert_allclose(same.frames[1].lidar.points, _scene().frames[1].lidar.points, atol=1e-5)


@pytest.mark.parametrize(("negate", "place", "yaw_deg"), [("y", (8.0, -3.0), -30.0), ("x", (-8.0, 3.0), 150.0)])
def test_a_mirrored_frame_shows_its_car_mirrored(negate: str, place: tuple[float, float], yaw_deg: float) -> None:
    pose = pose_to_SE3([100, 50, 1.9, 0, 40, 0])
    car = pose @ pose_to_SE3([8.0, 3.0, -1.0, 0, 30, 0])
    corners = transform_points(car, SIGNS * np.array([2.2, 0.9, 0.75]))
    frame = AgentFrame("1", "vehicle", 0, pose, pose, objects=ObjectLabels(np.array([7]), corners[None]))
    mirrored = mirror_frame(frame, negate)  # type: ignore[arg-type]
    box = objects_in_frame(mirrored.objects, mirrored.world_SE3_agent, (-100, -100, -9, 100, 100, 9)).boxes[0].numpy()
    np.testing.assert_allclose(box[:2], place, atol=1e-4)
    np.testing.assert_allclose(box[3:6], [1.5, 1.8, 4.4], atol=1e-4)
    np.testing.assert_allclose(np.cos(box[6] - np.radians(yaw_deg)), 1.0, atol=1e-6)


def test_an_agent_alone_is_varied_as_the_paper_does() -> None:
    """Check that labels and points of a single agent agree, and that all three variations occur."""
    settings = load_config(TrainingConfig, config_path("agent.yaml")).augment
    scales, turns, mirrored = [], [], 0
    original = _scene().frames[1]
    before = transform_points(inverse_SE3(original.world_SE3_agent), original.objects.world_corners[0])
    for seed in range(40):
        frame = augment(Scene.of([original]), settings, np.random.default_rng(seed)).frames[0]
        own = transform_points(inverse_SE3(frame.world_SE3_agent), frame.objects.world_corners[0])
        points = frame.lidar.points[:, :3] if frame.lidar else np.empty((0, 3))
        np.testing.assert_allclose(own[np.lexsort(own.T.round(2))], points[np.lexsort(points.T.round(2))], atol=1e-3)
        scales.append(np.linalg.norm(own.mean(axis=0)) / np.linalg.norm(before.mean(axis=0)))
        left = np.cross(own[0, :2] - own[3, :2], own[1, :2] - own[0, :2])
        assert left > 0  # the second corner is still to the left of the first
        turns.append(bearing(own) - bearing(before))
        mirrored += abs(turns[-1]) > 46
    assert 0.949 < min(scales) < 0.96 and 1.04 < max(scales) < 1.051
    assert 10 < mirrored < 30
    assert max(abs(turn) for turn in turns if abs(turn) <= 46) > 40


def bearing(corners: np.ndarray) -> float:
    """Return the angle from the agent's x axis to the middle of a box, degrees."""
    x, y, _ = corners.mean(axis=0)
    return float(np.degrees(np.arctan2(y, x)))
