"""Choose among labels: the objects in a range, those that cameras see, and those that are not an agent's own vehicle.

Sources of scenes use these functions, and reading scenes needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heal.box_corners import X, Y, boxes_around_origin, boxes_to_corners, corners_to_boxes, corners_within_range
from heal.se3 import inverse_SE3, transform_points
from heal.types import Float64, ObjectLabels, UInt8

# Edge of a pixel of OPV2V's maps of camera visibility.
VISIBILITY_CELL_M = 0.39


def boxes_in_frame(objects: ObjectLabels, world_SE3_frame: Float64) -> Float64:
    """Fit objects as upright boxes in a frame.

    Args:
        objects: N objects.
        world_SE3_frame: (4, 4) the frame of the result.

    Returns:
        (N, 7) boxes x, y, z, h, w, l, yaw; metres and radians.
    """
    return corners_to_boxes(transform_points(inverse_SE3(world_SE3_frame), objects.world_corners))


def objects_within(objects: ObjectLabels, world_SE3_agent: Float64, range_m: Sequence[float]) -> ObjectLabels:
    """Return the objects whose upright boxes in an agent's frame have all corners inside a range."""
    keep = corners_within_range(boxes_to_corners(boxes_in_frame(objects, world_SE3_agent)), range_m)
    return objects.select(keep)


def without_vehicle_at(objects: ObjectLabels, world_SE3_agent: Float64) -> ObjectLabels:
    """Drop the vehicle that carries an agent's sensor: the object with the origin of the agent's frame inside its footprint."""
    keep = ~boxes_around_origin(boxes_in_frame(objects, world_SE3_agent))
    return objects.select(keep)


def visible_objects(objects: ObjectLabels, visibility_map: UInt8, world_SE3_agent: Float64) -> ObjectLabels:
    """Return the objects whose centre lies on a marked pixel of an agent's map of camera visibility.

    Args:
        objects: the labels.
        visibility_map: (H, W) bird's-eye view, not 0 where a camera sees; the agent in the middle, rows along -x, columns along +y,
            0.39 m a pixel.
        world_SE3_agent: (4, 4) the agent's true pose.
    """
    cells = np.trunc(boxes_in_frame(objects, world_SE3_agent)[:, [X, Y]] / VISIBILITY_CELL_M).astype(np.int64)
    height, width = visibility_map.shape
    row, column = height // 2 - 1 - cells[:, 0], width // 2 - 1 + cells[:, 1]
    on_map = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    keep = on_map & (visibility_map[row.clip(0, height - 1), column.clip(0, width - 1)] > 0)
    return objects.select(keep)
