"""How alike the features of several agent types are: linear CKA of their maps, at chosen cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heal.grid import BevGrid
from heal.types import BoolMask, Float64


def linear_cka(a: Float64, b: Float64) -> float | None:
    """Return the linear centred kernel alignment of two sets of features, from 0 to 1 (Kornblith et al., ICML 2019).

    It is 1 if one set is a rotation and a scaling of the other, and 0 if no linear map of one tells anything of the other.

    Args:
        a: (N, C) features at N cells.
        b: (N, D) features at the same cells.

    Returns:
        The alignment; None if either set is constant, so that there is nothing to compare.
    """
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    own = np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)
    return float(np.linalg.norm(a.T @ b) ** 2 / own) if own > 0 else None


def cka_matrix(features: Sequence[Float64]) -> list[list[float | None]]:
    """Return the alignment of every pair of feature sets (N, C), as rows of a symmetric matrix; None without two cells."""
    if not features or len(features[0]) < 2:
        return [[None] * len(features) for _ in features]
    return [[linear_cka(a, b) for b in features] for a in features]


def cells_in_boxes(corners: Float64, grid: BevGrid) -> BoolMask:
    """Return which cells (ny, nx) of a grid have their centre inside of a box, seen from above.

    Args:
        corners: (M, 8, 3) metres in the grid's frame, in the corner order of `heal.box_corners`.
        grid: of the cells.
    """
    centres = np.stack(np.meshgrid(*grid.centres_m), axis=-1)  # (ny, nx, 2)
    inside = np.zeros((grid.ny, grid.nx), np.bool_)
    for box in corners[:, :, :2]:
        edges = np.stack([box[0] - box[3], box[1] - box[0]])
        halves = np.linalg.norm(edges, axis=1) / 2
        along = np.abs((centres - box[:4].mean(axis=0)) @ (edges / np.maximum(2 * halves, 1e-9)[:, None]).T)
        inside |= (along <= halves).all(axis=-1)
    return inside
