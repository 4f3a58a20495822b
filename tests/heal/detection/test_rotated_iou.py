"""Rotated overlap against hand-computed numbers and shapely; non-maximum suppression against its definition."""

import math

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heal.detection.boxes import bottom_rectangles, boxes_to_corners, planar_hulls
from heal.detection.rotated_iou import near_pairs, nms_rotated, paired_iou, rotated_iou


def random_boxes(count: int, seed: int, spread_m: float = 8.0) -> torch.Tensor:
    draw = torch.rand(count, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    low = torch.tensor([-spread_m, -spread_m, -1, 1.0, 0.2, 0.2, -math.pi])
    high = torch.tensor([spread_m, spread_m, 1, 2.0, 4.0, 12.0, math.pi])
    return low + draw * (high - low)


def footprints(boxes: torch.Tensor) -> torch.Tensor:
    return bottom_rectangles(boxes_to_corners(boxes))


def square(x: float, y: float, size: float = 1.0) -> list[list[float]]:
    return [[x, y], [x + size, y], [x + size, y + size], [x, y + size]]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (square(0, 0), 1.0),
        (square(0.5, 0), 1 / 3),
        (square(0.5, 0.5), 1 / 7),
        (square(1, 0), 0.0),  # shares an edge
        (square(1, 1), 0.0),  # shares a corner
        (square(0.25, 0.25, 0.5), 0.25),  # inside
        (square(-1, -1, 3), 1 / 9),  # around
        (square(0, 0)[::-1], 1.0),  # the other way round
        ([[0.5, -0.5], [1.5, 0.5], [0.5, 1.5], [-0.5, 0.5]], 0.5),  # turned by 45 degrees
        ([[0, 0], [0, 0], [0, 0], [0, 0]], 0.0),
        ([[0, 0.5], [1, 0.5], [1, 0.5], [0, 0.5]], 0.0),
        (square(0, 0, float("nan")), 0.0),
    ],
)
def test_overlap_with_the_unit_square_by_hand(other: list[list[float]], expected: float) -> None:
    a, b = torch.tensor([square(0, 0)]), torch.tensor([other], dtype=torch.float32)
    assert rotated_iou(a, b).item() == pytest.approx(expected, abs=1e-6)
    assert rotated_iou(b, a).item() == pytest.approx(expected, abs=1e-6)


def test_two_areas_of_nothing_do_not_overlap() -> None:
    nothing = torch.zeros(2, 4, 2)
    assert rotated_iou(nothing, nothing).tolist() == [[0.0, 0.0], [0.0, 0.0]]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_equals_shapely_is_symmetric_and_bounded(seed: int) -> None:
    a, b = footprints(random_boxes(12, seed)), footprints(random_boxes(9, seed + 1))
    iou = rotated_iou(a, b)
    left, right = shapely.polygons(a.numpy())[:, None], shapely.polygons(b.numpy())[None]
    expected = shapely.area(shapely.intersection(left, right)) / shapely.area(shapely.union(left, right))
    np.testing.assert_allclose(iou.numpy(), expected, atol=1e-9)
    assert torch.allclose(iou, rotated_iou(b, a).T, atol=1e-9)
    assert bool(((iou >= 0) & (iou <= 1)).all())


def test_equal_boxes_overlap_wholly_at_any_yaw() -> None:
    corners = footprints(random_boxes(200, seed=3)).float()
    assert torch.allclose(rotated_iou(corners, corners).diag(), torch.ones(200), atol=1e-5)


def test_many_pairs_are_the_same_as_few() -> None:
    a, b = footprints(random_boxes(5000, seed=4)), footprints(random_boxes(5000, seed=5))
    together = paired_iou(a, b)
    assert torch.equal(together[4000:], paired_iou(a[4000:], b[4000:]))


def test_no_boxes() -> None:
    none = torch.zeros(0, 4, 2)
    assert rotated_iou(none, footprints(random_boxes(3, seed=0)).float()).shape == (0, 3)
    assert nms_rotated(torch.zeros(0, 8, 3), torch.zeros(0), 0.15).tolist() == []


def naive_nms(iou: torch.Tensor, scores: torch.Tensor, threshold: float) -> list[int]:
    waiting, kept = scores.argsort(descending=True, stable=True).tolist(), []
    while waiting:
        best = waiting.pop(0)
        kept.append(best)
        waiting = [other for other in waiting if iou[best, other] <= threshold]
    return kept


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.05, 0.15, 0.5]))
def test_suppression_follows_its_definition_and_is_idempotent(seed: int, threshold: float) -> None:
    boxes = random_boxes(40, seed)
    corners, scores = boxes_to_corners(boxes), torch.rand(40, generator=torch.Generator().manual_seed(seed)).round(decimals=1)
    kept = nms_rotated(corners, scores, threshold)
    footprint = footprints(boxes)
    assert kept.tolist() == naive_nms(rotated_iou(footprint, footprint), scores, threshold)
    assert nms_rotated(corners[kept], scores[kept], threshold).tolist() == list(range(len(kept)))


def test_only_the_best_candidates_take_part() -> None:
    boxes = torch.tensor([[20.0 * i, 0, 0, 1.5, 2, 4, 0] for i in range(5)])
    scores = torch.tensor([0.1, 0.5, 0.3, 0.4, 0.2])
    assert nms_rotated(boxes_to_corners(boxes), scores, 0.15, max_candidates=3).tolist() == [1, 3, 2]


def all_near_pairs(hulls: torch.Tensor) -> list[tuple[int, int]]:
    def meet(a: list[float], b: list[float]) -> bool:
        return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]

    rows = hulls.tolist()
    return [(i, j) for i in range(len(rows)) for j in range(i + 1, len(rows)) if meet(rows[i], rows[j])]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 5.0, 30.0, 200.0]))
def test_near_pairs_are_those_whose_hulls_meet(seed: int, spread_m: float) -> None:
    boxes = random_boxes(60, seed, spread_m)
    boxes[::7, 3:6] *= 20  # some are as long as a street
    hulls = planar_hulls(footprints(boxes))
    hulls[5] = hulls[6]
    assert list(zip(*(part.tolist() for part in near_pairs(hulls)), strict=True)) == all_near_pairs(hulls)


def test_near_pairs_with_huge_and_infinite_hulls() -> None:
    hulls = torch.tensor([[0, 0, 1, 1], [-3e38, -3e38, 3e38, 3e38], [0, 0, 0, 0], [math.nan, 0, 1, 1], [0, 0, math.inf, 1]])
    assert list(zip(*(part.tolist() for part in near_pairs(hulls)), strict=True)) == [(0, 1), (0, 2), (1, 2)]


@pytest.mark.parametrize("threshold", [0.05, 0.15])
def test_suppression_of_crowds_follows_its_definition(threshold: float) -> None:
    # more pairs than the first chunk
    boxes = random_boxes(400, seed=8, spread_m=15.0)
    scores, footprint = torch.rand(400, generator=torch.Generator().manual_seed(8)), footprints(boxes)
    kept = nms_rotated(boxes_to_corners(boxes), scores, threshold, max_candidates=400)
    assert kept.tolist() == naive_nms(rotated_iou(footprint, footprint), scores, threshold)
