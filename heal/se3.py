"""Poses: from the six numbers or the quaternions of the data sets to 4x4 transforms and back, and transforms of points.

A pose is [x, y, z, roll, yaw, pitch] in metres and degrees (yaw is the fifth entry, pitch the sixth), in the convention of CARLA.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from heal.types import Float64, require_shape


def pose_to_SE3(pose: npt.ArrayLike) -> Float64:
    """Return the transform of a pose.

    Args:
        pose: (6,) x, y, z in metres, roll, yaw, pitch in degrees.

    Returns:
        (4, 4) float64 `world_SE3_agent`.
    """
    values = np.asarray(pose, dtype=np.float64)
    require_shape("pose", values, (6,))
    roll, yaw, pitch = np.radians(values[3:])
    cr, sr, cy, sy, cp, sp = np.cos(roll), np.sin(roll), np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    return np.array(
        [
            [cp * cy, cy * sp * sr - sy * cr, -cy * sp * cr - sy * sr, values[0]],
            [sy * cp, sy * sp * sr + cy * cr, -sy * sp * cr + cy * sr, values[1]],
            [sp, -cp * sr, cp * cr, values[2]],
            [0.0, 0.0, 0.0, 1.0],
        ]
    )


def SE3_to_pose(world_SE3_agent: Float64) -> Float64:
    """Return the (6,) pose of a transform: x, y, z in metres, roll, yaw, pitch in degrees; the inverse of `pose_to_SE3`."""
    m = world_SE3_agent
    yaw = np.arctan2(m[1, 0], m[0, 0])
    roll = np.arctan2(-m[2, 1], m[2, 2])
    pitch = np.arctan2(m[2, 0], np.hypot(m[2, 1], m[2, 2]))
    return np.concatenate([m[:3, 3], np.degrees([roll, yaw, pitch])])


def inverse_SE3(a_SE3_b: Float64) -> Float64:
    """Return `b_SE3_a` by transposing the rotation: exact for rigid transforms and cheaper than a matrix inverse."""
    b_SE3_a = np.eye(4)
    b_SE3_a[:3, :3] = a_SE3_b[:3, :3].T
    b_SE3_a[:3, 3] = -a_SE3_b[:3, :3].T @ a_SE3_b[:3, 3]
    return b_SE3_a


def relative_SE3(world_SE3_a: Float64, world_SE3_b: Float64) -> Float64:
    """Return `a_SE3_b`, which maps coordinates of frame b into frame a."""
    return inverse_SE3(world_SE3_a) @ world_SE3_b


def quaternions_to_rotations(quaternions: Float64) -> Float64:
    """Return the rotations (..., 3, 3) of quaternions (..., 4) in the order w, x, y, z, of any length but 0."""
    w, x, y, z = np.moveaxis(quaternions / np.linalg.norm(quaternions, axis=-1, keepdims=True), -1, 0)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quaternions_to_SE3(translations: Float64, quaternions: Float64) -> Float64:
    """Return the transforms (..., 4, 4) of translations (..., 3) in metres and quaternions (..., 4) in the order w, x, y, z."""
    transforms = np.zeros((*translations.shape[:-1], 4, 4))
    transforms[..., :3, :3], transforms[..., :3, 3] = quaternions_to_rotations(quaternions), translations
    transforms[..., 3, 3] = 1.0
    return transforms


def transform_points(a_SE3_b: Float64, b_points: Float64) -> Float64:
    """Map points (..., 3) from frame b into frame a."""
    a_points: Float64 = b_points @ a_SE3_b[:3, :3].T + a_SE3_b[:3, 3]
    return a_points
