"""Overlap of boxes seen from above, and the non-maximum suppression built on it. Batched, no Python loop over pairs.

The footprint of a box is a parallelogram (a rectangle, sheared a little where the box is tilted). In the frame in which one
footprint is the unit square, the overlap with the other is the area that its outline encloses after every point of it is moved to
the nearest point of the square: moving to the nearest point changes no winding number inside. An edge stays piecewise straight,
with breaks only where it crosses the lines x = 0, x = 1, y = 0, y = 1, so the area is one sum over a fixed number of points,
without sorting, without tolerances, and exact for shared edges and equal boxes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from heal.boxes import bottom_rectangles, planar_hulls

# Pairs worked on at once: the working set (20 points a pair, float64) then stays in the cache.
_PAIRS_AT_ONCE = 4096
# An overlap this small is rounding: footprints that do not meet must give 0, so that a threshold of 0 means what it says.
_ROUNDING = 1e-12


def rotated_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of every footprint in `a` with every one in `b`, computed in float64.

    Args:
        a: (N, 4, 2) corners in turn, metres.
        b: (M, 4, 2) likewise, in the same frame.

    Returns:
        (N, M) in [0, 1], in the dtype of `a`; 0 where a footprint has no area.
    """
    iou = torch.zeros(len(a), len(b), dtype=a.dtype, device=a.device)
    rows, columns = _touching(planar_hulls(a), planar_hulls(b)).nonzero(as_tuple=True)
    iou[rows, columns] = paired_iou(a[rows], b[columns]).to(a.dtype)
    return iou


def paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of footprint k of `a` with footprint k of `b`: (K, 4, 2) each to (K,) float64."""
    parts = zip(torch.split(a, _PAIRS_AT_ONCE), torch.split(b, _PAIRS_AT_ONCE), strict=True)
    return torch.cat([_paired_iou(a_part.double(), b_part.double()) for a_part, b_part in parts])


def nms_rotated(corners: Tensor, scores: Tensor, iou_threshold: float, max_candidates: int = 1000) -> Tensor:
    """Greedy non-maximum suppression: the best box stays, those that overlap it by more than the threshold go, and so on.

    Args:
        corners: (N, 8, 3) metres.
        scores: (N,).
        iou_threshold: overlap above which the lower-scored box goes.
        max_candidates: only so many of the highest scores take part; the others go.

    Returns:
        (K,) int64 indices of those that stay, in descending order of score; of equal scores the first comes first.
    """
    order = scores.argsort(descending=True, stable=True)[:max_candidates]
    footprints = bottom_rectangles(corners[order])
    hulls = planar_hulls(footprints)
    better, worse = _touching(hulls, hulls).triu_(diagonal=1).nonzero(as_tuple=True)
    overlapping = paired_iou(footprints[better], footprints[worse]) > iou_threshold
    kept = _greedy(better[overlapping].tolist(), worse[overlapping].tolist(), len(order))
    return order[kept]


def _greedy(better: list[int], worse: list[int], count: int) -> list[int]:
    """Ranks that stay, given pairs of ranks that exclude each other, sorted by the better one's rank."""
    stays = [True] * count
    for rank, other in zip(better, worse, strict=True):
        if stays[rank]:
            stays[other] = False
    return [rank for rank in range(count) if stays[rank]]


def _touching(a: Tensor, b: Tensor) -> Tensor:
    """Which axis-aligned hulls (N, 4) and (M, 4) meet; (N, M) bool."""
    apart = a[:, None, 0] > b[None, :, 2]
    apart |= b[None, :, 0] > a[:, None, 2]
    apart |= a[:, None, 1] > b[None, :, 3]
    apart |= b[None, :, 1] > a[:, None, 3]
    return apart.logical_not_()


def _paired_iou(a: Tensor, b: Tensor) -> Tensor:
    a_xy, b_xy = a.permute(1, 2, 0), b.permute(1, 2, 0)  # (4, 2, K): long rows make fast steps
    area_a, area_b = _enclosed_area(a_xy).abs(), _enclosed_area(b_xy).abs()
    intersection = _intersection_area(a_xy, b_xy)
    union = area_a + area_b - intersection
    iou = intersection / union.where(union > 0, torch.ones_like(union))
    return iou.where(iou > _ROUNDING, torch.zeros_like(iou)).clamp(max=1.0)  # not a number becomes 0 too


def _intersection_area(a: Tensor, b: Tensor) -> Tensor:
    """Common area of polygons a and parallelograms b, (4, 2, K) each; (K,)."""
    side, other = b[1] - b[0], b[3] - b[0]  # (2, K)
    determinant = _cross(side, other)
    offset = a - b[0]
    divisor = determinant.where(determinant != 0, torch.ones_like(determinant))
    local = torch.stack((_cross(offset, other), _cross(side, offset)), dim=1) / divisor  # b is the unit square here
    return (_enclosed_area(_pulled_into_unit_square(local)) * determinant).abs()


def _pulled_into_unit_square(outline: Tensor) -> Tensor:
    """Outlines (4, 2, K) with every point moved to the nearest one of the unit square, as polygons of 20 points (20, 2, K)."""
    step = outline.roll(-1, dims=0) - outline
    divisor = step.where(step != 0, torch.ones_like(step))
    at_0, at_1 = -outline / divisor, (1 - outline) / divisor
    enter, leave = torch.minimum(at_0, at_1).clamp_(0, 1), torch.maximum(at_0, at_1).clamp_(0, 1)  # (4, 2, K)
    late_enter, early_leave = enter.amax(dim=1), leave.amin(dim=1)
    breaks = torch.stack(
        (
            torch.zeros_like(late_enter),
            enter.amin(dim=1),
            torch.minimum(late_enter, early_leave),
            torch.maximum(late_enter, early_leave),
            leave.amax(dim=1),
        ),
        dim=1,
    )  # (4, 5, K): ascending along each edge; the next edge begins where this one ends
    points = outline[:, None] + breaks[:, :, None] * step[:, None]
    return points.clamp_(0, 1).flatten(0, 1)


def _enclosed_area(polygon: Tensor) -> Tensor:
    """Signed area of polygons (P, 2, K); (K,)."""
    return 0.5 * _cross(polygon, polygon.roll(-1, dims=0)).sum(dim=0)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    """Cross product of planar vectors (..., 2, K); (..., K)."""
    return a[..., 0, :] * b[..., 1, :] - a[..., 1, :] * b[..., 0, :]
