"""Range mask, own-vehicle mask and transform of a scan."""

import numpy as np

from heal.encoders.lidar import points_on_own_vehicle, points_within_range, transform_scan


def test_range_excludes_its_bounds() -> None:
    points = np.array([[0, 0, 0, 1], [10, 0, 0, 1], [9.9, 4.9, 0.9, 1], [0, 0, 1, 1], [0, -5.1, 0, 1]], np.float32)
    assert points_within_range(points, (-10, -5, -3, 10, 5, 1)).tolist() == [True, False, True, False, False]


def test_own_vehicle_includes_its_bounds_and_ignores_height() -> None:
    points = np.array([[0, 0, 9, 1], [2.95, 1.1, 0, 1], [-1.95, -1.1, 0, 1], [3.0, 0, 0, 1], [0, 1.2, 0, 1]], np.float32)
    assert points_on_own_vehicle(points).tolist() == [True, True, True, False, False]


def test_transform_keeps_intensity_and_input() -> None:
    a_SE3_b = np.array([[0.0, -1.0, 0.0, 10.0], [1.0, 0.0, 0.0, 20.0], [0.0, 0.0, 1.0, 30.0], [0.0, 0.0, 0.0, 1.0]])
    scan = np.array([[1.0, 2.0, 3.0, 0.5]], np.float32)
    assert transform_scan(a_SE3_b, scan).tolist() == [[8.0, 21.0, 33.0, 0.5]]
    assert transform_scan(a_SE3_b, scan).dtype == np.float32
    assert scan.tolist() == [[1.0, 2.0, 3.0, 0.5]]
