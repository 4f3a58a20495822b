"""Points in boxes: how much of an object a LiDAR sees."""

from __future__ import annotations

import numpy as np

from heal.types import Float64, Int64


def points_in_boxes(points: Float64, corners: Float64, margin_m: float = 0.1) -> Int64:
    """Count the points in each box.

    Args:
        points: (N, 3) metres.
        corners: (M, 8, 3) metres in the same frame, in the corner order of `heal.box_corners`; boxes may be tilted.
        margin_m: distance outside a face at which a point still counts, because sensor noise puts half of a surface's points there.

    Returns:
        (M,) number of points in each box.
    """
    order = np.argsort(points[:, 0], kind="stable")
    by_x = points[order]
    first = np.searchsorted(by_x[:, 0], corners[..., 0].min(axis=1) - margin_m)
    last = np.searchsorted(by_x[:, 0], corners[..., 0].max(axis=1) + margin_m, side="right")
    counts = [_count_inside(by_x[start:end], box, margin_m) for start, end, box in zip(first, last, corners, strict=True)]
    return np.array(counts, np.int64)


def _count_inside(points: Float64, box: Float64, margin_m: float) -> int:
    """Count the points (N, 3) that are at most half the size of a box (8, 3) from its middle, along each axis of the box."""
    middle = box.mean(axis=0)
    axes = np.stack([box[0] - box[3], box[1] - box[0], box[4] - box[0]])
    sizes = np.linalg.norm(axes, axis=1)
    near = points[np.abs(points[:, 1] - middle[1]) <= sizes.sum() / 2 + margin_m]
    along = np.abs((near - middle) @ (axes / np.maximum(sizes, 1e-9)[:, None]).T)
    return int((along <= sizes / 2 + margin_m).all(axis=1).sum())
