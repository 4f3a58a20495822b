"""Boxes, corners, hulls and ranges."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heal.box_corners import YAW
from heal.detection.boxes import (
    boxes_around_origin,
    boxes_to_corners,
    corners_to_boxes,
    corners_within_extent,
    corners_within_heights,
    corners_within_range,
    limit_period,
    planar_hulls,
    transform_corners,
)

RANGE_M = (-10.0, -5.0, -3.0, 10.0, 5.0, 1.0)


def box(
    x: float = 0.0, y: float = 0.0, z: float = -1.0, h: float = 1.5, w: float = 2.0, length: float = 4.0, yaw: float = 0.0
) -> torch.Tensor:
    return torch.tensor([[x, y, z, h, w, length, yaw]], dtype=torch.float64)


def test_corners_by_hand() -> None:
    corners = boxes_to_corners(box(x=1.0, y=2.0, z=0.0, h=2.0, w=2.0, length=4.0))[0]
    bottom = [[3, 1, -1], [3, 3, -1], [-1, 3, -1], [-1, 1, -1]]
    assert corners.tolist() == bottom + [[x, y, 1] for x, y, _ in bottom]


def test_a_quarter_turn_points_the_length_along_y() -> None:
    corners = boxes_to_corners(box(length=4.0, w=2.0, yaw=math.pi / 2))
    assert torch.allclose(planar_hulls(corners), torch.tensor([[-1.0, -2.0, 1.0, 2.0]], dtype=torch.float64))


@given(
    st.tuples(*[st.floats(-100, 100)] * 3),
    st.tuples(*[st.floats(0.1, 20)] * 3),
    st.floats(-math.pi, math.pi),
)
def test_box_round_trip(centre: tuple[float, ...], size: tuple[float, ...], yaw: float) -> None:
    boxes = torch.tensor([[*centre, *size, yaw]], dtype=torch.float64)
    back = corners_to_boxes(boxes_to_corners(boxes))
    assert torch.allclose(back[:, :6], boxes[:, :6], atol=1e-9)
    assert limit_period(back[:, YAW] - boxes[:, YAW]).abs().item() < 1e-9


def test_yaw_near_half_a_turn_is_averaged_as_a_direction() -> None:
    corners = boxes_to_corners(box(yaw=math.pi))
    corners[0, 0, 1] -= 1e-3  # one long edge now lies on the other side of +-pi
    assert abs(abs(corners_to_boxes(corners)[0, YAW].item()) - math.pi) < 1e-2
    assert abs(corners_to_boxes(corners, compat_heal=True)[0, YAW].item()) < math.pi * 0.9


def test_no_boxes() -> None:
    assert boxes_to_corners(torch.zeros(0, 7)).shape == (0, 8, 3)
    assert corners_to_boxes(torch.zeros(0, 8, 3)).shape == (0, 7)
    assert planar_hulls(torch.zeros(0, 8, 3)).shape == (0, 4)
    assert corners_within_range(torch.zeros(0, 8, 3), RANGE_M).shape == (0,)
    assert corners_within_extent(torch.zeros(0, 8, 3), 6.0).shape == (0,)


def test_range_is_inclusive_and_counts_corners() -> None:
    touching = boxes_to_corners(box(x=8.0))
    across = boxes_to_corners(box(x=10.0))
    high = boxes_to_corners(box(z=0.5))
    corners = torch.cat((touching, across, high))
    assert corners_within_range(corners, RANGE_M).tolist() == [True, False, False]
    assert corners_within_range(corners, RANGE_M, use_z=False).tolist() == [True, False, True]
    assert corners_within_range(corners, RANGE_M, minimum_corners=4).tolist() == [True, True, True]


def test_extent_and_heights() -> None:
    corners = boxes_to_corners(torch.cat((box(), box(length=12.0), box(length=12.0, yaw=math.pi / 2), box(z=0.4))))
    assert corners_within_extent(corners, 6.0).tolist() == [True, False, False, True]
    assert corners_within_heights(corners, (-3.0, 1.0)).tolist() == [True, True, True, False]


def test_transform_moves_and_turns() -> None:
    a_SE3_b = torch.eye(4, dtype=torch.float64)
    a_SE3_b[:2, :2] = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    a_SE3_b[:3, 3] = torch.tensor([1.0, 2.0, 3.0])
    moved = corners_to_boxes(transform_corners(a_SE3_b, boxes_to_corners(box(x=5.0))))
    assert torch.allclose(moved, box(x=1.0, y=7.0, z=2.0, yaw=math.pi / 2))


def test_wrong_shape_is_named() -> None:
    with pytest.raises(ValueError, match=r"boxes: expected a tensor of shape \(N, 7\), got \(3, 6\)"):
        boxes_to_corners(torch.zeros(3, 6))


def test_limit_period_by_hand() -> None:
    angles = torch.tensor([math.pi, -math.pi, 3 * math.pi, 0.5], dtype=torch.float64)
    assert torch.allclose(limit_period(angles), torch.tensor([-math.pi, -math.pi, -math.pi, 0.5], dtype=torch.float64))


def test_the_box_around_the_origin_is_the_own_vehicle() -> None:
    # 4 m by 2 m, turned by 90 degrees: 2 m along x, 4 m along y.
    boxes = torch.tensor(
        [[0.9, 0, 0, 1.5, 2, 4, math.pi / 2], [1.1, 0, 0, 1.5, 2, 4, math.pi / 2], [0, 1.9, 5, 1.5, 2, 4, math.pi / 2]]
    )
    assert boxes_around_origin(boxes).tolist() == [True, False, True]
    assert boxes_around_origin(torch.zeros(0, 7)).tolist() == []
