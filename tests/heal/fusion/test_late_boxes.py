"""Late fusion: boxes of several agents are moved into the ego's frame, joined, and duplicates are dropped once."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from heal.detection.boxes import boxes_to_corners
from heal.detection.decode import DecodeConfig
from heal.fusion.late import AgentBoxes, join_boxes
from heal.se3 import pose_to_SE3
from tests.heal.detection.test_decode import car

RANGE_M = (-16.0, -8.0, -3.0, 16.0, 8.0, 1.0)
EGO = pose_to_SE3([100.0, 50.0, 2.0, 0, 90.0, 0])
# Another agent, 4 m ahead of the ego, drives in the opposite direction.
OTHER = EGO @ pose_to_SE3([4.0, 0.0, 0.0, 0, 180.0, 0])


def found(pose: np.ndarray, *boxes: list[float], score: float, number: int = 0) -> AgentBoxes:
    return AgentBoxes(torch.tensor(boxes), torch.full((len(boxes),), score), torch.full((len(boxes),), number), pose)


def test_boxes_are_moved_and_of_two_boxes_of_one_vehicle_the_better_is_kept() -> None:
    ego = found(EGO, car(-3.0, 1.0, 0.0), score=0.6)
    other = found(OTHER, car(7.0, -1.0, 0.0), car(-6.0, 3.0, 0.5), score=0.8)
    joined = join_boxes([ego, other], EGO, DecodeConfig(), RANGE_M)
    assert joined.scores.tolist() == pytest.approx([0.8, 0.8])
    expected = boxes_to_corners(torch.tensor([car(-3.0, 1.0, -math.pi), car(10.0, -3.0, 0.5 - math.pi)]))
    assert torch.allclose(joined.corners[joined.boxes[:, 0].argsort()], expected, atol=1e-4)


def test_a_pose_that_is_measured_wrongly_moves_the_boxes_and_what_leaves_the_range_is_dropped() -> None:
    other, wrong = found(OTHER, car(-6.0, 3.0, 0.0), score=0.8), OTHER @ pose_to_SE3([-1.0, 0, 0, 0, 0, 0])
    moved = join_boxes([replace(other, world_SE3_agent=wrong)], EGO, DecodeConfig(), RANGE_M)
    assert moved.boxes[0, :2].tolist() == pytest.approx([11.0, -3.0], abs=1e-4)
    far = EGO @ pose_to_SE3([12.0, 0.0, 0.0, 0, 180.0, 0])
    assert len(join_boxes([replace(other, world_SE3_agent=far)], EGO, DecodeConfig(), RANGE_M)) == 0
    assert len(join_boxes([], EGO, DecodeConfig(), RANGE_M)) == 0


def test_a_box_of_another_class_is_no_duplicate() -> None:
    ego, other = found(EGO, car(-3.0, 1.0, 0.0), score=0.6), found(OTHER, car(7.0, -1.0, 0.0), score=0.8, number=2)
    joined = join_boxes([ego, other], EGO, DecodeConfig(), RANGE_M)
    assert (joined.scores.tolist(), joined.classes.tolist()) == (pytest.approx([0.8, 0.6]), [2, 0])
