"""Read DAIR-V2X-C's calibration files as poses and cameras."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heal.datasets.dataset import DatasetError
from heal.datasets.files import errors_naming, read_image, read_json
from heal.datasets.notation import as_mapping, as_matrix, as_SE3, as_vector
from heal.se3 import inverse_SE3
from heal.types import CameraView, Float64

# A matrix with a larger deviation from a rotation holds scales of the camera.
RIGID_TOLERANCE = 1e-4


def read_chain(paths: Sequence[Path]) -> Float64:
    """Read rigid calibrations and return their product `world_SE3_a @ a_SE3_b @ ...`, (4, 4) float64; DatasetError if unusable."""
    chain = np.eye(4)
    for path in paths:
        values = _read_mapping(path)
        with errors_naming(path):
            values = dict(as_mapping("transform", values.get("transform", values)))
            chain = chain @ as_SE3(path.parent.name, values["rotation"], values["translation"])
    return chain


def read_camera(image: Path, intrinsic: Path, lidar_to_camera: Path) -> CameraView:
    """Read one side's image and its calibration; DatasetError if unusable. Lens distortion stays as in the published images."""
    values = _read_mapping(lidar_to_camera)
    with errors_naming(lidar_to_camera):
        rotation = as_matrix("rotation", values["rotation"], (3, 3))
        translation = as_vector("translation", values["translation"], 3)
    camera = _read_mapping(intrinsic)
    with errors_naming(intrinsic):
        matrix = as_vector("cam_K", camera["cam_K"], 9).reshape(3, 3)
    with errors_naming(lidar_to_camera):
        matrix, camera_SE3_agent = rigid_camera(matrix, rotation, translation)
        return CameraView("camera0", read_image(image), matrix, inverse_SE3(camera_SE3_agent))


def rigid_camera(intrinsic: Float64, rotation: Float64, translation: Float64) -> tuple[Float64, Float64]:
    """Return a camera with the same projection and a true rotation.

    The roadside units' `virtuallidar_to_camera` stretches the axes by up to a fifth: the calibration moved part of the focal length
    into this matrix. Every projection matrix K [A | t] equals K' [R | t'] with a rotation R, and the geometry of images needs R.

    Args:
        intrinsic: (3, 3) K.
        rotation: (3, 3) A.
        translation: (3,) t.

    Returns:
        (3, 3) K' with K'[2, 2] = 1, and (4, 4) `camera_SE3_agent`.

    Raises:
        ValueError: A mirrors or collapses space.
    """
    if np.linalg.det(rotation) <= 0:
        raise ValueError("rotation: expected a matrix that turns space without mirroring it, got a determinant <= 0")
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > RIGID_TOLERANCE:
        upper, rotation = _rq(intrinsic @ rotation)
        translation = np.asarray(np.linalg.solve(upper, intrinsic @ translation), np.float64)
        intrinsic = upper / upper[2, 2]
    camera_SE3_agent = np.eye(4)
    camera_SE3_agent[:3, :3], camera_SE3_agent[:3, 3] = rotation, translation
    return intrinsic, camera_SE3_agent


def _rq(matrix: Float64) -> tuple[Float64, Float64]:
    """Factor a matrix (3, 3) into an upper triangle with positive diagonal and a rotation; ValueError if its determinant <= 0."""
    if np.linalg.det(matrix) <= 0:
        raise ValueError("rotation: expected a matrix that turns space without mirroring it")
    q, r = np.linalg.qr(matrix[::-1].T)
    upper, rotation = r.T[::-1, ::-1], q.T[::-1]
    signs = np.sign(np.diag(upper))
    return upper * signs, rotation * signs[:, None]


def _read_mapping(path: Path) -> dict[str, Any]:
    """Read a calibration file; DatasetError if it is not a mapping."""
    values = read_json(path)
    if not isinstance(values, dict):
        raise DatasetError(path, f"expected a calibration as a mapping, got {type(values).__name__}")
    return values
