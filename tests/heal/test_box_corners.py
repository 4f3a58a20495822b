"""Boxes in numpy: corners, fits and ranges, the same as those of the tensor form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heal import box_corners
from heal.detection import boxes as tensor_form
from heal.se3 import pose_to_SE3, transform_points
from heal.types import Float64

RANGE_M = (-10.0, -5.0, -3.0, 10.0, 5.0, 1.0)
TOLERANCE = 1e-12


def tensor(array: Float64) -> torch.Tensor:
    return torch.from_numpy(array)


def random_boxes(seed: int, count: int) -> Float64:
    """Return boxes (N, 7) up to 12 m away from the origin; the yaw of every fourth is plus or minus pi."""
    rng = np.random.default_rng(seed)
    yaw = np.where(np.arange(count) % 4, rng.uniform(-math.pi, math.pi, count), math.pi * rng.choice([-1, 1], count))
    return np.column_stack((rng.uniform(-12, 12, (count, 2)), rng.uniform(-3, 1, count), rng.uniform(0.3, 8, (count, 3)), yaw))


def test_corners_by_hand() -> None:
    corners = box_corners.boxes_to_corners(np.array([[1.0, 2.0, 0.0, 2.0, 2.0, 4.0, 0.0]]))[0]
    bottom = [[3, 1, -1], [3, 3, -1], [-1, 3, -1], [-1, 1, -1]]
    assert corners.tolist() == bottom + [[x, y, 1] for x, y, _ in bottom]


def test_a_tilted_box_is_fitted_upright() -> None:
    local = box_corners.boxes_to_corners(np.array([[0.0, 0.0, 0.0, 1.5, 2.0, 4.0, 0.0]]))
    pitched = transform_points(pose_to_SE3([5.0, 6.0, 7.0, 0.0, 0.0, 60.0]), local)
    np.testing.assert_allclose(box_corners.corners_to_boxes(pitched), [[5.0, 6.0, 7.0, 0.75, 2.0, 2.0, 0.0]], atol=1e-12)


def test_range_is_inclusive() -> None:
    places = [[8.0, 0.0, -1.0], [8.1, 0.0, -1.0], [0.0, -4.1, -1.0], [0.0, 0.0, 0.5]]
    corners = box_corners.boxes_to_corners(np.array([[*place, 1.5, 2.0, 4.0, 0.0] for place in places]))
    assert box_corners.corners_within_range(corners, RANGE_M).tolist() == [True, False, False, False]
    assert box_corners.corners_within_range(corners, RANGE_M, use_z=False).tolist() == [True, False, False, True]


@given(st.integers(0, 2**32 - 1), st.integers(0, 50), st.floats(-10, 10), st.floats(-10, 10))
def test_numpy_and_tensors_agree(seed: int, count: int, roll_deg: float, pitch_deg: float) -> None:
    boxes = random_boxes(seed, count)
    corners = box_corners.boxes_to_corners(boxes)
    np.testing.assert_allclose(corners, tensor_form.boxes_to_corners(tensor(boxes)).numpy(), rtol=0, atol=TOLERANCE)
    tilted = transform_points(pose_to_SE3([3.0, -2.0, 1.0, roll_deg, 130.0, pitch_deg]), corners)
    fitted, expected = box_corners.corners_to_boxes(tilted), tensor_form.corners_to_boxes(tensor(tilted)).numpy()
    np.testing.assert_allclose(fitted[:, :6], expected[:, :6], rtol=0, atol=TOLERANCE)
    turns = (fitted[:, 6] - expected[:, 6]) / math.tau  # yaws of plus and minus half a turn are equal
    np.testing.assert_allclose(turns, np.round(turns), rtol=0, atol=TOLERANCE)


@given(st.integers(0, 2**32 - 1), st.integers(0, 50), st.booleans())
def test_numpy_and_tensors_select_the_same_boxes(seed: int, count: int, use_z: bool) -> None:
    boxes = random_boxes(seed, count)
    corners = box_corners.boxes_to_corners(boxes)
    expected = tensor_form.corners_within_range(tensor(corners), RANGE_M, use_z=use_z)
    assert box_corners.corners_within_range(corners, RANGE_M, use_z=use_z).tolist() == expected.tolist()
    assert box_corners.boxes_around_origin(boxes).tolist() == tensor_form.boxes_around_origin(tensor(boxes)).tolist()


def test_wrong_shape_is_named() -> None:
    with pytest.raises(ValueError, match=r"boxes: expected an array of shape \(any, 7\), got \(3, 6\)"):
        box_corners.boxes_to_corners(np.zeros((3, 6)))
    with pytest.raises(ValueError, match="corners: expected an array of shape"):
        box_corners.corners_to_boxes(np.zeros((3, 4, 3)))
