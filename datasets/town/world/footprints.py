"""Footprints of vehicles on the ground: rectangles, and the test whether rectangles overlap."""

from __future__ import annotations

import numpy as np

from heal.types import Float64


def footprint(xy: Float64, yaw: Float64, length_m: Float64, width_m: Float64) -> Float64:
    """Return the corners (..., 4, 2) of rectangles with middles (..., 2), headings (...) in radians, and sizes (...)."""
    forward = np.stack([np.cos(yaw), np.sin(yaw)], axis=-1) * np.asarray(length_m)[..., None] / 2
    right = np.stack([-np.sin(yaw), np.cos(yaw)], axis=-1) * np.asarray(width_m)[..., None] / 2
    ring = [forward + right, forward - right, -forward - right, -forward + right]
    corners: Float64 = xy[..., None, :] + np.stack(ring, axis=-2)
    return corners


def overlaps(one: Float64, others: Float64) -> bool:
    """Return whether the rectangle `one` (4, 2) overlaps any of `others` (N, 4, 2), by the test of separating axes."""
    if len(others) == 0:
        return False
    edges = np.concatenate(
        [np.broadcast_to((one[1:3] - one[:2])[None], (len(others), 2, 2)), others[:, 1:3] - others[:, :2]], axis=1
    )
    first = np.einsum("nad,kd->nak", edges, one)
    second = np.einsum("nad,nkd->nak", edges, others)
    apart = (first.max(2) < second.min(2)) | (second.max(2) < first.min(2))
    return bool((~apart.any(axis=1)).any())
