"""Augmented scenes stay consistent: a point on a car is still on that car, whoever sees it."""

import numpy as np
import pytest

from heal.augment import AugmentConfig, augment, mirror, rescale
from heal.se3 import inverse_SE3, pose_to_SE3, transform_points
from heal.types import AgentFrame, LidarScan, ObjectLabels, Scene, SceneOutline

SIGNS = np.array([(1, -1, -1), (1, 1, -1), (-1, 1, -1), (-1, -1, -1), (1, -1, 1), (1, 1, 1), (-1, 1, 1), (-1, -1, 1)])


def _scene() -> Scene:
    """Two agents that both look at the eight corners of one car, each in its own frame."""
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
    # Right-handed: up is where forward x left points to, as for every box of heal.boxes.
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
