"""3D boxes as seven numbers and as eight corners: the order of both, and conversions in numpy.

All boxes (N, 7) have the order x, y, z (centre), h, w, l, yaw: metres and radians. The eight corners of a box, (N, 8, 3),
in units of (l/2, w/2, h/2) before the turn by yaw, are (+,-,-) (+,+,-) (-,+,-) (-,-,-) (+,-,+) (+,+,+) (-,+,+) (-,-,+): the bottom
rectangle in turn, then the top one above it.

Labels are float64 arrays, read without torch; their boxes are converted here. `heal.detection.boxes` has the same conversions for
tensors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heal.types import BoolMask, Float64, require_shape

X, Y, Z, H, W, L, YAW = range(7)

CORNER_SIGNS = ((1, -1, -1), (1, 1, -1), (-1, 1, -1), (-1, -1, -1), (1, -1, 1), (1, 1, 1), (-1, 1, 1), (-1, -1, 1))
# Corners whose mean is the centre: the ends of two diagonals.
CENTRE_CORNERS = [0, 3, 5, 6]
# Edges along the length, from the rear to the front, and edges along the width.
REAR, FRONT = [2, 3, 6, 7], [1, 0, 5, 4]
RIGHT, LEFT = [0, 2, 4, 6], [1, 3, 5, 7]


def boxes_to_corners(boxes: Float64) -> Float64:
    """Compute the eight corners of boxes.

    Args:
        boxes: (N, 7) x, y, z, h, w, l in metres, yaw in radians.

    Returns:
        (N, 8, 3) corners in metres.
    """
    require_shape("boxes", boxes, (None, 7))
    local = boxes[:, None, [L, W, H]] / 2 * CORNER_SIGNS  # (N, 8, 3)
    cos, sin = np.cos(boxes[:, YAW, None]), np.sin(boxes[:, YAW, None])
    x = local[..., 0] * cos - local[..., 1] * sin
    y = local[..., 0] * sin + local[..., 1] * cos
    corners: Float64 = np.stack((x, y, local[..., 2]), axis=-1) + boxes[:, None, :3]
    return corners


def corners_to_boxes(corners: Float64) -> Float64:
    """Fit boxes to corners: exact for the corners of upright boxes, an upright fit for tilted boxes.

    Sizes are means over the parallel edges, lengths and widths measured in the x-y plane. The yaw is the mean direction of the four
    long edges.

    Args:
        corners: (N, 8, 3) metres.

    Returns:
        (N, 7) boxes, yaw in (-pi, pi].
    """
    require_shape("corners", corners, (None, 8, 3))
    centre = corners[:, CENTRE_CORNERS].mean(axis=1)
    height = np.abs((corners[:, 4:, 2] - corners[:, :4, 2]).mean(axis=1))
    along = (corners[:, FRONT] - corners[:, REAR])[..., :2]  # (N, 4, 2)
    across = (corners[:, LEFT] - corners[:, RIGHT])[..., :2]
    length, width = (np.linalg.norm(edges, axis=-1).mean(axis=1) for edges in (along, across))
    angle = np.arctan2(along[..., 1], along[..., 0])
    yaw = np.arctan2(np.sin(angle).sum(axis=1), np.cos(angle).sum(axis=1))
    return np.column_stack((centre, height, width, length, yaw))


def boxes_around_origin(boxes: Float64) -> BoolMask:
    """Return which boxes (N, 7) have the frame's origin inside their footprint, as an agent's own vehicle has; (N,) bool."""
    require_shape("boxes", boxes, (None, 7))
    cos, sin = np.cos(boxes[:, YAW]), np.sin(boxes[:, YAW])
    along, across = boxes[:, X] * cos + boxes[:, Y] * sin, boxes[:, Y] * cos - boxes[:, X] * sin
    around: BoolMask = (np.abs(along) <= boxes[:, L] / 2) & (np.abs(across) <= boxes[:, W] / 2)
    return around


def corners_within_range(corners: Float64, range_m: Sequence[float], use_z: bool = True) -> BoolMask:
    """Return which boxes have all corners inside a range.

    Args:
        corners: (N, 8, 3) metres.
        range_m: x_min, y_min, z_min, x_max, y_max, z_max, bounds included.
        use_z: test the height too.

    Returns:
        (N,) bool.
    """
    axes = 3 if use_z else 2
    points = corners[..., :axes]
    inside = (points >= range_m[:axes]) & (points <= range_m[3 : 3 + axes])  # (N, 8, axes)
    return np.asarray(inside.all(axis=(1, 2)), bool)


def corners_to_oriented(corners: Float64) -> tuple[Float64, Float64]:
    """Fit boxes that may be tilted to corners: exact for the corners of any box.

    The corners of a mirrored box, whose right and left are exchanged, give the same box with its sides named rightly.

    Args:
        corners: (N, 8, 3) metres.

    Returns:
        (N, 4, 4) poses of the centres, x along the length, y along the width, z up; and (N, 3) length, width, height in metres.

    Raises:
        ValueError: a box without a size, or corners that are not finite.
    """
    require_shape("corners", corners, (None, 8, 3))
    centre = corners.mean(axis=1)
    half = np.einsum("nck,ca->nak", corners - centre[:, None], CORNER_SIGNS) / 8  # (N, 3, 3), a row for each half axis
    sizes: Float64 = 2 * np.linalg.norm(half, axis=2)
    if not (np.isfinite(sizes) & (sizes > 0)).all():
        raise ValueError(f"expected boxes with a length, a width and a height, got sizes down to {sizes.min():g} m")
    forward = half[:, 0] / (sizes[:, :1] / 2)
    side = half[:, 1] - forward * (forward * half[:, 1]).sum(axis=1, keepdims=True)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(forward, side)
    mirrored = ((up * half[:, 2]).sum(axis=1) < 0)[:, None]
    poses = np.tile(np.eye(4), (len(corners), 1, 1))
    poses[:, :3, :3] = np.stack([forward, np.where(mirrored, -side, side), np.where(mirrored, -up, up)], axis=2)
    poses[:, :3, 3] = centre
    return poses, sizes


def oriented_to_corners(poses: Float64, sizes: Float64) -> Float64:
    """Compute the corners (N, 8, 3) of boxes from poses (N, 4, 4) and sizes (N, 3), as `corners_to_oriented` gives them."""
    local = sizes[:, None] / 2 * np.asarray(CORNER_SIGNS, np.float64)  # (N, 8, 3)
    corners: Float64 = local @ poses[:, :3, :3].transpose(0, 2, 1) + poses[:, None, :3, 3]
    return corners
