"""Overlap of boxes in bird's-eye view and in space, and the non-maximum suppression. Only boxes that are near are compared.

The footprint of a box is a parallelogram (a rectangle, sheared a little where the box is tilted). In the frame in which one
footprint is the unit square, the overlap with the other is the area that its outline encloses after every point of the outline is
moved to the nearest point of the square: the move changes no winding number inside the square. An edge stays piecewise straight,
with breaks only where it crosses the lines x = 0, x = 1, y = 0, y = 1. So the area is one sum over a fixed number of points,
without sorting and without tolerances, and it is exact for shared edges and equal boxes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from heal.detection.boxes import bottom_rectangles, planar_hulls
from heal.types import BoolMask, Int64

# Pairs per chunk on a CPU: the working set (20 points a pair, float64) stays in the cache, and below the size from which torch uses
# further threads, whose barriers cost more than they save here. Other devices need large chunks.
_CPU_CHUNK, _DEVICE_CHUNK = 800, 1 << 18
# Pairs in the first chunk of the suppression; each further chunk has twice as many. Early chunks decide most of the later pairs.
_FIRST_PAIRS = 400
# A smaller overlap than this is a rounding error: footprints that do not meet must give exactly 0, or a threshold of 0 fails.
_ROUNDING = 1e-12


def rotated_iou(a: Tensor, b: Tensor) -> Tensor:
    """Compute the intersection over union of every footprint in `a` with every footprint in `b`, in float64.

    Args:
        a: (N, 4, 2) corners in turn, metres.
        b: (M, 4, 2) corners in turn, metres in the same frame.

    Returns:
        (N, M) in [0, 1], in the dtype of `a`; 0 where a footprint has no area.
    """
    iou = torch.zeros(len(a), len(b), dtype=a.dtype, device=a.device)
    rows, columns = _touching(planar_hulls(a), planar_hulls(b)).nonzero(as_tuple=True)
    iou[rows, columns] = paired_iou(a[rows], b[columns]).to(a.dtype)
    return iou


def upright_iou(bev_iou: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Compute the intersection over union in space of every upright box in `a` with every one in `b`.

    The common volume is the common area of the footprints times the common height. The common area follows from the overlap in
    bird's-eye view, so no polygon is cut again.

    Args:
        bev_iou: (N, M) the intersection over union of the footprints.
        a: (N, 8, 3) corners, metres, the four of the bottom first.
        b: (M, 8, 3) corners, metres in the same frame.

    Returns:
        (N, M) in [0, 1], in the dtype of `bev_iou`; 0 where a box has no volume.
    """
    (area_a, low_a, high_a), (area_b, low_b, high_b) = _extents(a), _extents(b)
    iou = bev_iou.double()
    common_area = iou * (area_a[:, None] + area_b) / (1 + iou)
    common_m = (torch.minimum(high_a[:, None], high_b) - torch.maximum(low_a[:, None], low_b)).clamp(min=0)
    common = common_area * common_m
    union = (area_a * (high_a - low_a))[:, None] + area_b * (high_b - low_b) - common
    return (common / union.where(union > 0, torch.ones_like(union))).clamp(0, 1).to(bev_iou.dtype)


def paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """Compute the intersection over union of footprint k of `a` with footprint k of `b`: (K, 4, 2) each to (K,) float64."""
    size = _CPU_CHUNK if a.device.type == "cpu" else _DEVICE_CHUNK
    parts = zip(torch.split(a, size), torch.split(b, size), strict=True)
    return torch.cat([_chunk_iou(a_part.double(), b_part.double()) for a_part, b_part in parts])


def nms_rotated(
    corners: Tensor, scores: Tensor, iou_threshold: float, max_candidates: int = 1000, classes: Tensor | None = None
) -> Tensor:
    """Greedy non-maximum suppression: keep the best box, drop the boxes that overlap it by more than the threshold, and so on.

    Args:
        corners: (N, 8, 3) metres.
        scores: (N,).
        iou_threshold: overlap above which the lower-scored box is dropped.
        max_candidates: number of best boxes that take part; the others are dropped.
        classes: (N,) numbers of the boxes' classes: a box is dropped for one of its own class only. None for one class.

    Returns:
        (K,) int64 indices of the boxes that are kept, in descending order of score; boxes of equal score keep their order.
    """
    order = scores.argsort(descending=True, stable=True)[:max_candidates]
    # On the CPU, whatever the device of the boxes: the suppression is a loop over boxes.
    footprints = bottom_rectangles(corners[order]).cpu()
    better, worse = near_pairs(planar_hulls(footprints))
    if classes is not None:
        numbers = classes[order].cpu().numpy()
        alike = numbers[better] == numbers[worse]
        better, worse = better[alike], worse[alike]
    dropped = _suppress(footprints, better, worse, iou_threshold)
    return order[torch.from_numpy(~dropped).to(order.device)]


def near_pairs(hulls: Tensor) -> tuple[Int64, Int64]:
    """Find all pairs of hulls that meet.

    The plane is cut into strips along x, as high as the mean hull; in each strip, hulls are sorted by their lower x. So the work
    grows like n log n for n boxes spread over a plane.

    Args:
        hulls: (N, 4) x_min, y_min, x_max, y_max on the CPU; a hull with a number that is not finite meets no other.

    Returns:
        lower: (P,) the lower index of each pair, ascending.
        higher: (P,) the higher index of each pair.
    """
    finite = np.flatnonzero(hulls.isfinite().all(dim=1).numpy())
    if len(finite) < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    x_min, y_min, x_max, y_max = hulls.numpy()[finite].astype(np.float64).T
    strip_m = max(float((y_max - y_min).mean()), 1e-6)
    lowest, highest = (np.floor((y - y_min.min()) / strip_m) for y in (y_min, y_max))
    hull, step = _ranges((highest - lowest).astype(np.int64) + 1)
    strip = lowest[hull] + step
    begin, end = (strip * (x_max.max() - x_min.min() + 1) + (x - x_min.min())[hull] for x in (x_min, x_max))  # strip after strip
    order = np.argsort(begin)
    place, further = _ranges(np.searchsorted(begin[order], end[order], side="right") - np.arange(1, len(order) + 1))
    left, right = order[place], order[place + 1 + further]
    a, b = hull[left], hull[right]
    # A pair that shares several strips is taken only in the first of them.
    meet = (strip[left] == strip[right]) & (strip[left] == np.maximum(lowest[a], lowest[b]))
    meet &= (y_min[a] <= y_max[b]) & (y_min[b] <= y_max[a])
    a, b = finite[a[meet]], finite[b[meet]]
    pairs = np.sort(np.minimum(a, b) * len(hulls) + np.maximum(a, b))  # plain numbers are sorted fastest
    return np.divmod(pairs, len(hulls))


def _ranges(counts: Int64) -> tuple[Int64, Int64]:
    """Repeat every k counts[k] times, and number the repetitions. For counts 2, 0, 1: (0, 0, 2) and (0, 1, 0)."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)


def _suppress(footprints: Tensor, better: Int64, worse: Int64, iou_threshold: float) -> BoolMask:
    """Return which of N footprints (N, 4, 2), best first, are dropped; (N,).

    Args:
        footprints: (N, 4, 2) corners in turn, in descending order of score.
        better: (P,) the better footprint of each pair that may overlap, ascending.
        worse: (P,) the worse footprint of each pair.
        iou_threshold: overlap above which the worse footprint is dropped.
    """
    dropped, size = np.zeros(len(footprints), np.bool_), _FIRST_PAIRS
    while len(better):
        undecided = ~(dropped[better] | dropped[worse])
        better, worse = better[undecided], worse[undecided]
        chunk, better, worse = (better[:size], worse[:size]), better[size:], worse[size:]
        one, other = (footprints[torch.from_numpy(part)] for part in chunk)
        overlap = (paired_iou(one, other) > iou_threshold).numpy()
        dropped = _drop_worse(dropped.tolist(), *(part[overlap].tolist() for part in chunk))
        size *= 2
    return dropped


def _drop_worse(dropped: list[bool], better: list[int], worse: list[int]) -> BoolMask:
    """Go through overlapping pairs in the order of the better box, and drop the worse box if the better one is kept."""
    for one, other in zip(better, worse, strict=True):
        if not dropped[one]:
            dropped[other] = True
    return np.array(dropped, np.bool_)


def _extents(corners: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the area of each footprint of corners (N, 8, 3), and the heights of the box's bottom and top; (N,) float64 each."""
    footprints, z = bottom_rectangles(corners).double(), corners[..., 2].double()
    return _enclosed_area(footprints.permute(1, 2, 0)).abs(), z[:, :4].mean(dim=1), z[:, 4:].mean(dim=1)


def _touching(a: Tensor, b: Tensor) -> Tensor:
    """Return which axis-aligned hulls (N, 4) and (M, 4) meet; (N, M) bool."""
    apart = a[:, None, 0] > b[None, :, 2]
    apart |= b[None, :, 0] > a[:, None, 2]
    apart |= a[:, None, 1] > b[None, :, 3]
    apart |= b[None, :, 1] > a[:, None, 3]
    return apart.logical_not_()


def _chunk_iou(a: Tensor, b: Tensor) -> Tensor:
    """Compute the intersection over union of footprints (K, 4, 2) float64, pair by pair; (K,)."""
    a_xy, b_xy = a.permute(1, 2, 0), b.permute(1, 2, 0)  # (4, 2, K): long rows are fast
    area_a, area_b = _enclosed_area(a_xy).abs(), _enclosed_area(b_xy).abs()
    intersection = _intersection_area(a_xy, b_xy)
    union = area_a + area_b - intersection
    iou = intersection / union.where(union > 0, torch.ones_like(union))
    return iou.where(iou > _ROUNDING, torch.zeros_like(iou)).clamp(max=1.0)  # NaN becomes 0 too


def _intersection_area(a: Tensor, b: Tensor) -> Tensor:
    """Compute the common area of polygons a and parallelograms b, (4, 2, K) each; (K,)."""
    side, other = b[1] - b[0], b[3] - b[0]  # (2, K)
    determinant = _cross(side, other)
    offset = a - b[0]
    divisor = determinant.where(determinant != 0, torch.ones_like(determinant))
    local = torch.stack((_cross(offset, other), _cross(side, offset)), dim=1) / divisor  # in these coordinates b is the unit square
    return (_enclosed_area(_clamp_to_unit_square(local)) * determinant).abs()


def _clamp_to_unit_square(outline: Tensor) -> Tensor:
    """Move every point of outlines (4, 2, K) to the nearest point of the unit square; polygons of 20 points (20, 2, K)."""
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
    """Compute the signed area of polygons (P, 2, K); (K,)."""
    return 0.5 * _cross(polygon, polygon.roll(-1, dims=0)).sum(dim=0)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    """Compute the cross product of planar vectors (..., 2, K); (..., K)."""
    return a[..., 0, :] * b[..., 1, :] - a[..., 1, :] * b[..., 0, :]
