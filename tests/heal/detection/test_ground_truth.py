"""Ground truth: frames, range, the ego's own vehicle, merging."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import torch

from heal.detection.boxes import boxes_to_corners
from heal.detection.ground_truth import (
    agent_ground_truth,
    ground_truth,
    merge_by_iou,
    objects_in_frame,
)
from heal.se3 import pose_to_SE3
from heal.types import AgentFrame, ObjectLabels, Scene, SceneOutline

RANGE_M = (-50.0, -25.0, -3.0, 50.0, 25.0, 1.0)


def corners_of(*boxes: list[float]) -> torch.Tensor:
    return boxes_to_corners(torch.tensor(boxes, dtype=torch.float64))


def labels(*boxes: list[float]) -> ObjectLabels:
    return ObjectLabels(np.arange(len(boxes), dtype=np.int64) + 10, corners_of(*boxes).numpy())


def scene_at(pose: npt.ArrayLike, objects: ObjectLabels) -> Scene:
    world_SE3_ego = pose_to_SE3(pose)
    frame = AgentFrame("1", "vehicle", 0, world_SE3_ego, world_SE3_ego, objects=objects)
    return Scene(SceneOutline("s/0", 0, "1", ("1",), world_SE3_ego), (frame,), objects)


# x, y, z, h, w, l, yaw in the world; the ego at (3400, 2100), 2 m up, looking along +y.
EGO_POSE = [3400.0, 2100.0, 2.0, 0.0, 90.0, 0.0]
AHEAD = [3400.0, 2120.0, 0.75, 1.5, 2.0, 4.0, np.pi / 2]
OWN = [3400.0, 2099.5, 0.75, 1.5, 2.0, 4.0, np.pi / 2]
FAR = [3400.0, 2149.0, 0.75, 1.5, 2.0, 4.0, np.pi / 2]
HIGH = [3400.0, 2110.0, 3.0, 1.5, 2.0, 4.0, np.pi / 2]


def test_objects_come_into_the_ego_frame_and_range() -> None:
    found = ground_truth(scene_at(EGO_POSE, labels(AHEAD, OWN, FAR, HIGH)), RANGE_M)
    assert found.ids.tolist() == [10, 11]  # FAR sticks out by a metre, HIGH by 0.75 m
    torch.testing.assert_close(found.boxes[0], torch.tensor([20.0, 0.0, -1.25, 1.5, 2.0, 4.0, 0.0]), atol=1e-4, rtol=0)


def test_height_can_be_left_out_and_the_own_vehicle_too() -> None:
    scene = scene_at(EGO_POSE, labels(AHEAD, OWN, FAR, HIGH))
    assert objects_in_frame(scene.objects, pose_to_SE3(EGO_POSE), RANGE_M, use_z=False).ids.tolist() == [10, 11, 13]
    assert ground_truth(scene, RANGE_M, include_ego=False).ids.tolist() == [10]


def test_objects_in_another_frame() -> None:
    found = objects_in_frame(labels(AHEAD), pose_to_SE3([3400, 2130, 2, 0, 0, 0]), RANGE_M)
    torch.testing.assert_close(found.boxes[0, :2], torch.tensor([0.0, -10.0]), atol=1e-4, rtol=0)


def test_tilted_objects_stand_upright_in_the_frame() -> None:
    found = ground_truth(scene_at([3400, 2100, 2, 3, 90, -2], labels(AHEAD)), RANGE_M)
    bottom, top = found.corners[0, :4], found.corners[0, 4:]
    torch.testing.assert_close(bottom[:, 2], bottom[:1, 2].expand(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(bottom[:, :2], top[:, :2])


def test_labels_of_one_agent_are_in_the_frame_of_its_measured_pose() -> None:
    frame = scene_at(EGO_POSE, labels(AHEAD)).ego
    wrong = dataclasses.replace(frame, world_SE3_agent_measured=pose_to_SE3([3401.0, 2100.0, 2.0, 0, 90, 0]))
    torch.testing.assert_close(agent_ground_truth(wrong, RANGE_M).boxes[0, :2], torch.tensor([20.0, 1.0]), atol=1e-4, rtol=0)


def test_no_object_gives_empty_ground_truth() -> None:
    assert len(ground_truth(scene_at(EGO_POSE, ObjectLabels.empty()), RANGE_M)) == 0


def test_the_union_of_labels_keeps_the_first_of_each_id() -> None:
    first, second = labels(AHEAD, OWN), labels(OWN, FAR, HIGH)
    merged = ObjectLabels.union([first, dataclasses.replace(second, ids=second.ids + 1)])
    assert merged.ids.tolist() == [10, 11, 12, 13]
    np.testing.assert_array_equal(merged.world_corners, labels(AHEAD, OWN, FAR, HIGH).world_corners)
    assert len(ObjectLabels.union([])) == 0


def renumbered(objects: ObjectLabels, first: int) -> ObjectLabels:
    return dataclasses.replace(objects, ids=np.arange(first, first + len(objects)))


def test_merging_by_overlap_drops_objects_that_are_there_already() -> None:
    shifted = [AHEAD[0] + 0.5, *AHEAD[1:]]
    ego, other = renumbered(labels(AHEAD, OWN), 1), renumbered(labels(shifted, FAR), 101)
    merged = merge_by_iou([ego, other], pose_to_SE3(EGO_POSE))
    assert merged.ids.tolist() == [1, 2, 102]
    np.testing.assert_array_equal(merged.world_corners, labels(AHEAD, OWN, FAR).world_corners)
    empty = ObjectLabels.empty()
    assert (
        merge_by_iou([empty, other], np.eye(4)).ids.tolist() == merge_by_iou([other, empty], np.eye(4)).ids.tolist() == [101, 102]
    )


def test_boxes_of_one_agent_are_not_merged_with_each_other_and_a_touch_is_no_overlap() -> None:
    beside = [AHEAD[0] + 0.97 * AHEAD[4], *AHEAD[1:]]  # 3 % of the width: an IoU of 0.015
    twice = renumbered(labels(AHEAD, AHEAD), 1)
    assert merge_by_iou([twice, renumbered(labels(beside), 9)], np.eye(4)).ids.tolist() == [1, 2, 9]
    assert merge_by_iou([twice, renumbered(labels(beside), 9)], np.eye(4), max_iou=0.01).ids.tolist() == [1, 2]
