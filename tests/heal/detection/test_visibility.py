"""LiDAR points inside boxes, and vehicles that are hidden from the ego."""

import numpy as np
import pytest

from heal.detection.points import points_in_boxes
from heal.detection.visibility import scene_visibility
from heal.se3 import inverse_SE3, pose_to_SE3, transform_points
from heal.types import AgentFrame, LidarScan, ObjectLabels, Scene, SceneOutline

UNIT = np.array([(1, -1, -1), (1, 1, -1), (-1, 1, -1), (-1, -1, -1), (1, -1, 1), (1, 1, 1), (-1, 1, 1), (-1, -1, 1)]) / 2


def test_points_in_boxes_by_hand():
    boxes = np.stack([UNIT * [4, 2, 1.5], UNIT * [4, 2, 1.5] + [10, 0, 0]])
    points = np.array([[0, 0, 0], [1.9, 0.9, 0.7], [2.05, 0, 0], [2.2, 0, 0], [0, 1.2, 0], [10, 0, 0.8], [10, 0, 0.9]])
    assert points_in_boxes(points, boxes).tolist() == [3, 1]
    assert points_in_boxes(points, boxes, margin_m=0.0).tolist() == [2, 0]
    assert points_in_boxes(np.zeros((0, 3)), boxes).tolist() == [0, 0]
    assert points_in_boxes(points, np.zeros((0, 8, 3))).tolist() == []


@pytest.mark.parametrize("seed", range(3))
def test_points_in_boxes_of_any_pose_equals_the_test_in_the_box_s_own_frame(seed):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-20, 20, (4000, 3)) * [1, 1, 0.1]
    poses = [pose_to_SE3([*rng.uniform(-15, 15, 2), 0, *rng.uniform(-5, 5, 1), *rng.uniform(-180, 180, 1), 3.0]) for _ in range(6)]
    sizes = rng.uniform(2, 8, (6, 3))
    corners = np.stack([transform_points(pose, UNIT * size) for pose, size in zip(poses, sizes, strict=True)])
    local = [np.abs(transform_points(inverse_SE3(pose), points)) for pose in poses]
    expected = [(part <= size / 2 + 0.1).all(axis=1).sum() for part, size in zip(local, sizes, strict=True)]
    assert points_in_boxes(points, corners).tolist() == expected


def frame(agent_id, x, points, labels):
    pose = pose_to_SE3([x, 0, 0, 0, 0, 0])
    in_agent = transform_points(inverse_SE3(pose), points)
    scan = LidarScan(np.concatenate([in_agent, np.zeros((len(points), 1))], axis=1).astype(np.float32))
    return AgentFrame(agent_id, "vehicle", 0, pose, pose, scan, (), labels)


def test_hidden_means_the_ego_has_few_points_and_another_agent_many():
    boxes = np.stack([UNIT * [4, 2, 1.5] + [20, y, 0] for y in (0, 10, 20, 200)] + [UNIT * [4, 2, 1.5]])
    labels = ObjectLabels(np.array([11, 12, 13, 14, 15]), boxes)
    own = np.concatenate([np.tile([20.0, y, 0], (count, 1)) for y, count in ((0, 4), (10, 5), (20, 0), (200, 0))])
    other = np.concatenate([np.tile([20.0, y, 0], (count, 1)) for y, count in ((0, 21), (10, 21), (20, 20), (200, 50))])
    frames = (frame("1", 0.0, own, labels), frame("2", 30.0, other, ObjectLabels.empty()))
    scene = Scene(SceneOutline("s", 0, "1", ("1", "2"), frames[0].world_SE3_agent), frames, labels)
    found = scene_visibility(scene)
    assert found.ids.tolist() == [11, 12, 13], "14 is out of range, 15 is the ego itself"
    assert found.ego_points.tolist() == [4, 5, 0] and found.best_other_points.tolist() == [21, 21, 20]
    assert found.hidden.tolist() == [True, False, False]
