"""3D boxes as tensors: from seven numbers to eight corners and back, hulls, and range tests.

`heal.box_corners` defines the order of the numbers and of the corners, and converts the boxes of labels in numpy. Detections need
the same conversions on the device and in the dtype of the networks, hence the tensor forms here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from heal.box_corners import CENTRE_CORNERS, CORNER_SIGNS, FRONT, LEFT, REAR, RIGHT, YAW, H, L, W, X, Y


def boxes_to_corners(boxes: Tensor) -> Tensor:
    """Compute the eight corners of boxes.

    Args:
        boxes: (N, 7) x, y, z, h, w, l in metres, yaw in radians.

    Returns:
        (N, 8, 3) corners in metres, in the dtype and on the device of `boxes`.
    """
    _require_rows("boxes", boxes, (7,))
    half = boxes[:, None, [L, W, H]] / 2
    local = half * boxes.new_tensor(CORNER_SIGNS)  # (N, 8, 3)
    cos, sin = boxes[:, YAW, None].cos(), boxes[:, YAW, None].sin()
    x = local[..., 0] * cos - local[..., 1] * sin
    y = local[..., 0] * sin + local[..., 1] * cos
    return torch.stack((x, y, local[..., 2]), dim=-1) + boxes[:, None, :3]


def boxes_around_origin(boxes: Tensor) -> Tensor:
    """Return which boxes (N, 7) have the frame's origin inside their footprint, as an agent's own vehicle has; (N,) bool."""
    _require_rows("boxes", boxes, (7,))
    cos, sin = boxes[:, YAW].cos(), boxes[:, YAW].sin()
    along, across = boxes[:, X] * cos + boxes[:, Y] * sin, boxes[:, Y] * cos - boxes[:, X] * sin
    return (along.abs() <= boxes[:, L] / 2) & (across.abs() <= boxes[:, W] / 2)


def corners_to_boxes(corners: Tensor, compat_heal: bool = False) -> Tensor:
    """Fit boxes to corners: exact for the corners of upright boxes, an upright fit for tilted boxes.

    Sizes are means over the parallel edges, lengths and widths measured in the x-y plane.

    Args:
        corners: (N, 8, 3) metres.
        compat_heal: average the yaws of the four long edges as plain numbers, as HEAL does. The mean is wrong by up to half a turn
            if the yaws lie on both sides of +-pi. The default averages directions.

    Returns:
        (N, 7) boxes, yaw in (-pi, pi].
    """
    _require_rows("corners", corners, (8, 3))
    centre = corners[:, CENTRE_CORNERS].mean(dim=1)
    height = (corners[:, 4:, 2] - corners[:, :4, 2]).mean(dim=1).abs()
    along = (corners[:, FRONT] - corners[:, REAR])[..., :2]  # (N, 4, 2)
    across = (corners[:, LEFT] - corners[:, RIGHT])[..., :2]
    length, width = along.norm(dim=-1).mean(dim=1), across.norm(dim=-1).mean(dim=1)
    angle = torch.atan2(along[..., 1], along[..., 0])
    yaw = angle.mean(dim=1) if compat_heal else torch.atan2(angle.sin().sum(dim=1), angle.cos().sum(dim=1))
    return torch.cat((centre, torch.stack((height, width, length, yaw), dim=1)), dim=1)


def limit_period(angle: Tensor, offset: float = 0.5, period: float = 2 * math.pi) -> Tensor:
    """Move `angle` by whole periods into [-offset * period, (1 - offset) * period); by default into [-pi, pi)."""
    return angle - torch.floor(angle / period + offset) * period


def bottom_rectangles(corners: Tensor) -> Tensor:
    """Return the footprints of boxes: corners (N, 8, 3) to (N, 4, 2), the four bottom corners in turn."""
    return corners[:, :4, :2]


def planar_hulls(corners: Tensor) -> Tensor:
    """Return axis-aligned hulls in the x-y plane: corners (N, K, 2 or 3) to (N, 4) x_min, y_min, x_max, y_max."""
    planar = corners[..., :2]
    return torch.cat((planar.amin(dim=1), planar.amax(dim=1)), dim=1)


def transform_corners(a_SE3_b: Tensor, b_corners: Tensor) -> Tensor:
    """Map corners from frame b into frame a.

    Args:
        a_SE3_b: (4, 4) in the dtype of the corners.
        b_corners: (N, 8, 3), or points of any shape (..., 3), metres.
    """
    return b_corners @ a_SE3_b[:3, :3].T + a_SE3_b[:3, 3]


def corners_within_range(corners: Tensor, range_m: Sequence[float], use_z: bool = True, minimum_corners: int = 8) -> Tensor:
    """Return which boxes lie inside a range.

    Args:
        corners: (N, 8, 3) metres.
        range_m: x_min, y_min, z_min, x_max, y_max, z_max, bounds included.
        use_z: test the height too.
        minimum_corners: number of the eight corners that must be inside.

    Returns:
        (N,) bool.
    """
    axes = 3 if use_z else 2
    low, high = corners.new_tensor(range_m[:axes]), corners.new_tensor(range_m[3 : 3 + axes])
    points = corners[..., :axes]
    inside = ((points >= low) & (points <= high)).all(dim=-1)  # (N, 8)
    return inside.sum(dim=1) >= minimum_corners


def corners_within_extent(corners: Tensor, max_extent_m: float) -> Tensor:
    """Return which boxes have an axis-aligned hull of at most `max_extent_m` in x and in y; (N, 8, 3) to (N,) bool."""
    extent = corners[..., :2].amax(dim=1) - corners[..., :2].amin(dim=1)
    return (extent <= max_extent_m).all(dim=1)


def corners_within_heights(corners: Tensor, z_limits_m: tuple[float, float]) -> Tensor:
    """Return which boxes lie between two heights, bounds included; (N, 8, 3) to (N,) bool."""
    z = corners[..., 2]
    return (z.amin(dim=1) >= z_limits_m[0]) & (z.amax(dim=1) <= z_limits_m[1])


def _require_rows(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tensor.shape[1:] != shape or tensor.ndim != len(shape) + 1:
        wanted = ", ".join(str(n) for n in shape)
        raise ValueError(f"{name}: expected a tensor of shape (N, {wanted}), got {tuple(tensor.shape)}")
