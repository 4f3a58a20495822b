"""The checks of the types that modules exchange."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from heal.se3 import pose_to_SE3
from heal.types import AgentFrame, CameraView, Float64, SceneOutline, require_SE3

POSE = pose_to_SE3([3.0, 4.0, 1.0, 5.0, 30.0, -2.0])
MIRRORS = [np.diag([1.0, 1.0, -1.0, 1.0]), np.eye(4)[[1, 0, 2, 3]], -np.eye(4) + 2 * np.diag([0.0, 0.0, 0.0, 1.0])]


def frame(pose: Float64, measured: Float64) -> AgentFrame:
    return AgentFrame("101", "vehicle", 0, pose, measured)


@pytest.mark.parametrize("mirror", MIRRORS)
def test_a_pose_of_an_agent_does_not_mirror_space(mirror: Float64) -> None:
    mirrored = POSE @ mirror
    makers: list[Any] = [
        lambda: frame(mirrored, POSE),
        lambda: frame(POSE, mirrored),
        lambda: SceneOutline("a/1", 0, "101", ("101",), mirrored),
        lambda: require_SE3("pose", mirrored),
    ]
    for make in makers:
        with pytest.raises(ValueError, match=r"determinant \+1; this one mirrors space") as raised:
            make()
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("axes", [[1, 2, 0, 3], [2, 0, 1, 3], [0, 1, 2, 3]])
def test_axes_that_are_turned_round_do_not_mirror(axes: list[int]) -> None:
    turned = POSE @ np.eye(4)[axes]
    assert frame(turned, turned).world_SE3_agent is turned


def test_a_camera_may_join_a_left_handed_world_to_right_handed_axes() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    assert CameraView("camera0", image, np.eye(3), MIRRORS[0]).agent_SE3_camera is MIRRORS[0]
    with pytest.raises(ValueError, match="rigid"):
        CameraView("camera0", image, np.eye(3), np.diag([2.0, 1.0, 1.0, 1.0]))


def test_an_error_about_a_pose_is_one_line() -> None:
    with pytest.raises(ValueError, match="rigid") as raised:
        require_SE3("pose", np.full((4, 4), np.nan))
    assert "\n" not in str(raised.value)
