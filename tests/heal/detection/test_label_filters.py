"""Choosing among labels: a range, an agent's own vehicle, maps of camera visibility."""

from __future__ import annotations

import numpy as np

from heal.box_corners import boxes_to_corners
from heal.detection.label_filters import boxes_in_frame, objects_within, visible_objects, without_vehicle_at
from heal.se3 import pose_to_SE3
from heal.types import ObjectLabels


def labels(*boxes: list[float]) -> ObjectLabels:
    return ObjectLabels(np.arange(len(boxes), dtype=np.int64) + 10, boxes_to_corners(np.array(boxes)))


def test_boxes_come_into_the_frame() -> None:
    ahead = [3400.0, 2120.0, 0.75, 1.5, 2.0, 4.0, np.pi / 2]
    found = boxes_in_frame(labels(ahead), pose_to_SE3([3400.0, 2100.0, 2.0, 0.0, 90.0, 0.0]))
    np.testing.assert_allclose(found, [[20.0, 0.0, -1.25, 1.5, 2.0, 4.0, 0.0]], atol=1e-9)


def test_a_range_keeps_objects_that_are_wholly_inside() -> None:
    across, inside = [19.0, 0.0, 0.0, 1.5, 2.0, 4.0, 0.0], [17.9, 0.0, 0.0, 1.5, 2.0, 4.0, 0.0]
    objects = labels(across, inside)
    found = objects_within(objects, np.eye(4), (-20.0, -20.0, -3.0, 20.0, 20.0, 1.0))
    assert found.ids.tolist() == [11]
    np.testing.assert_array_equal(found.world_corners, objects.world_corners[1:])


def test_own_vehicle_is_found_by_its_footprint() -> None:
    beside = [2.0, 3.0, 0.0, 1.5, 2.0, 8.0, 0.0]
    across = [0.0, 0.5, 0.0, 1.5, 2.0, 8.0, 1.2]
    assert without_vehicle_at(labels(beside, across), np.eye(4)).ids.tolist() == [10]


def test_visibility_is_read_at_the_pixel_of_the_centre() -> None:
    seen = np.zeros((256, 256), np.uint8)
    seen[127 - 25, 127 + 12] = 255  # 25 pixels ahead, 12 to +y
    ahead = [25.5 * 0.39, 12.5 * 0.39, 0.0, 1.5, 2.0, 4.0, 0.0]
    behind = [-25.5 * 0.39, 12.5 * 0.39, 0.0, 1.5, 2.0, 4.0, 0.0]
    off_the_map = [500.0, 0.0, 0.0, 1.5, 2.0, 4.0, 0.0]
    assert visible_objects(labels(ahead, behind, off_the_map), seen, np.eye(4)).ids.tolist() == [10]


def test_no_objects() -> None:
    nothing, seen = ObjectLabels.empty(), np.ones((256, 256), np.uint8)
    assert len(objects_within(nothing, np.eye(4), (-1, -1, -1, 1, 1, 1))) == len(without_vehicle_at(nothing, np.eye(4))) == 0
    assert len(visible_objects(nothing, seen, np.eye(4))) == 0
