"""Boxes in camera images: where the faces of a box fall, which of them the camera sees, and which boxes are ahead and inside.

Pixels count from the image's upper left corner, x to the right and y down. A box is cut off `NEAR_M` before the camera, because
nothing behind a camera has a place in its image. Cameras that join a left-handed world to image axes (OPV2V) need no special case.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heal.types import BoolMask, CameraView, Float64

NEAR_M = 0.3
# The corners of each face of a box in turn, in the corner order of `heal.box_corners`: front, rear, right, left, bottom, top.
FACES = ((0, 1, 5, 4), (2, 3, 7, 6), (3, 0, 4, 7), (1, 2, 6, 5), (0, 3, 2, 1), (4, 5, 6, 7))


@dataclass(frozen=True)
class ProjectedBox:
    """A box in an image.

    Attributes:
        near: (K, 2) outlines in pixels of the faces whose outer side the camera sees.
        far: (K, 2) outlines of the other faces, which the box itself hides. Faces behind the camera are in neither.
        depth_m: distance of the box's centre along the camera's z axis.
    """

    near: tuple[Float64, ...]
    far: tuple[Float64, ...]
    depth_m: float


def in_camera(view: CameraView, points: Float64) -> Float64:
    """Return points (..., 3) of the agent's frame in the camera's: x right, y down, z forward, in metres."""
    pose = view.agent_SE3_camera
    # The inverse of a rotation, and of one that mirrors, is its transpose.
    camera_points: Float64 = (points - pose[:3, 3]) @ pose[:3, :3]
    return camera_points


def pixels_of(view: CameraView, camera_points: Float64) -> Float64:
    """Return the pixels (..., 2) of points (..., 3) in the camera's frame, all of which are in front of the camera."""
    homogeneous = camera_points @ view.intrinsic.T
    pixels: Float64 = homogeneous[..., :2] / homogeneous[..., 2:]
    return pixels


def project_box(view: CameraView, corners: Float64) -> ProjectedBox:
    """Project a box into an image.

    Args:
        view: the camera.
        corners: (8, 3) metres in the agent's frame, in the corner order of `heal.box_corners`.
    """
    box = in_camera(view, corners)
    centre = box.mean(axis=0)
    sides: tuple[list[Float64], list[Float64]] = ([], [])
    for face in FACES:
        middle = box[list(face)].mean(axis=0)
        # The face's outer side is towards the camera, which is at the origin, if its outward direction points against the view.
        is_far = float(middle @ (middle - centre)) >= 0
        outline = _cut_at_near(box[list(face)])
        if len(outline):
            sides[is_far].append(pixels_of(view, outline))
    return ProjectedBox(tuple(sides[0]), tuple(sides[1]), float(centre[2]))


def _cut_at_near(outline: Float64) -> Float64:
    """Return the part of a convex outline (K, 3) that is at least `NEAR_M` before the camera; (0, 3) if there is none."""
    kept: list[Float64] = []
    for here, following in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        if here[2] >= NEAR_M:
            kept.append(here)
        if (here[2] >= NEAR_M) != (following[2] >= NEAR_M):
            share = (NEAR_M - here[2]) / (following[2] - here[2])
            kept.append(here + share * (following - here))
    return np.array(kept).reshape(-1, 3)


def boxes_ahead(view: CameraView, corners: Float64) -> BoolMask:
    """Return which boxes (N, 8, 3) of the agent's frame have their centre within 45 degrees of the camera's z axis, as (N,)."""
    centres = in_camera(view, corners).mean(axis=1)
    ahead: BoolMask = (centres[:, 2] > 0) & (np.linalg.norm(centres[:, :2], axis=1) <= centres[:, 2])
    return ahead


def boxes_inside(view: CameraView, corners: Float64) -> BoolMask:
    """Return of which boxes (N, 8, 3) of the agent's frame the centre or a corner falls into the image, as (N,)."""
    places = in_camera(view, np.concatenate([corners, corners.mean(axis=1, keepdims=True)], axis=1))  # (N, 9, 3)
    in_front = places[..., 2] >= NEAR_M
    pixels = pixels_of(view, np.where(in_front[..., None], places, [0.0, 0.0, 1.0]))
    height, width = view.image.shape[:2]
    inside = in_front & (pixels >= 0).all(axis=-1) & (pixels < [width, height]).all(axis=-1)  # (N, 9)
    return np.asarray(inside.any(axis=1), bool)
