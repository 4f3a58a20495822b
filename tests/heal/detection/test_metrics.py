"""Average precision against numbers computed by hand."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from heal.detection.boxes import boxes_to_corners
from heal.detection.detections import Detections, GroundTruth
from heal.detection.metrics import (
    ApAccumulator,
    FrameMatch,
    Recall,
    ap_text,
    area_under,
    match_overlaps,
    matched_ground_truth,
    precision_recall,
    recall_of,
)


def corners(xs: list[float]) -> torch.Tensor:
    """Return cars 4 m long and 2 m wide, one behind the other, at least 20 m apart."""
    return boxes_to_corners(torch.tensor([[x, 0.0, -1.0, 1.5, 2.0, 4.0, 0.0] for x in xs]).reshape(-1, 7))


def truth(xs: list[float]) -> GroundTruth:
    return GroundTruth(corners(xs), torch.arange(len(xs)))


def found(xs: list[float], scores: list[float]) -> Detections:
    return Detections.sorted(corners(xs), torch.tensor(scores))


def ap(*frames: tuple[Detections, GroundTruth]) -> list[float | None]:
    accumulator = ApAccumulator()
    for detections, ground_truth in frames:
        accumulator.add(detections, ground_truth)
    return list(accumulator.results().ap.values())


def test_the_truth_itself_scores_one() -> None:
    xs = [0.0, 20.0, 40.0]
    assert ap((found(xs, [0.3, 0.9, 0.5]), truth(xs))) == pytest.approx([1.0, 1.0, 1.0])


def test_boxes_elsewhere_score_nothing() -> None:
    assert ap((found([10.0, 30.0], [0.9, 0.8]), truth([0.0, 20.0]))) == [0.0, 0.0, 0.0]


def test_a_shift_is_judged_by_the_threshold() -> None:
    # shifted by 1 m along 4 m: IoU 3/5; by 2 m: 1/3
    assert ap((found([1.0], [0.9]), truth([0.0]))) == [1.0, 1.0, 0.0]
    assert ap((found([2.0], [0.9]), truth([0.0]))) == [1.0, 0.0, 0.0]


def test_one_false_alarm_above_two_objects() -> None:
    # precision 0, 1/2, 2/3 at recall 0, 1/2, 1: monotone from the right 2/3 everywhere
    assert ap((found([99.0, 0.0, 20.0], [0.9, 0.8, 0.7]), truth([0.0, 20.0]))) == pytest.approx([2 / 3] * 3)


def test_one_false_alarm_between_and_one_object_missed() -> None:
    # precision 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3: area 1/3 * 1 + 1/3 * 2/3
    frame = (found([0.0, 99.0, 20.0], [0.9, 0.8, 0.7]), truth([0.0, 20.0, 40.0]))
    assert ap(frame) == pytest.approx([5 / 9] * 3)


def test_a_second_box_on_one_object_is_a_false_alarm() -> None:
    accumulator = ApAccumulator((0.5,))
    accumulator.add(found([0.0, 0.1], [0.9, 0.8]), truth([0.0]))
    curve = accumulator.results().curves[0]
    assert (curve.true_positives, curve.false_positives, curve.ap) == (1, 1, 1.0)


def test_the_best_of_the_objects_left_is_taken() -> None:
    iou = np.array([[0.6, 0.8], [0.55, 0.9], [0.7, 0.9]], np.float32)
    assert match_overlaps(iou, (0.5, 0.6)).tolist() == [[1, 0, -1], [1, -1, 0]]


def match_in_turn(iou: np.ndarray, threshold: float) -> list[int]:
    found = [-1] * iou.shape[0]
    for row in range(iou.shape[0]):
        best = max((c for c in range(iou.shape[1]) if c not in found), key=lambda c: (iou[row, c], -c), default=None)
        if best is not None and iou[row, best] >= np.float32(threshold):
            found[row] = best
    return found


@pytest.mark.parametrize("seed", range(20))
def test_matching_at_once_is_matching_in_turn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    iou = rng.random((rng.integers(0, 25), rng.integers(0, 12))).round(1).astype(np.float32)  # rounded, so that many are equal
    thresholds = (0.3, 0.5, 0.7)
    match = FrameMatch(np.zeros(len(iou), np.float32), match_overlaps(iou, thresholds), iou.shape[1])
    for found_object, found, threshold in zip(match.found_object.tolist(), match.found.tolist(), thresholds, strict=True):
        assert found_object == match_in_turn(iou, threshold)
        assert found == [column in found_object for column in range(iou.shape[1])]


def test_scores_are_sorted_over_all_frames() -> None:
    # the false alarm of the second frame comes before the hit of the first, whatever the order of the frames
    hit, alarm = (found([0.0], [0.4]), truth([0.0])), (found([50.0], [0.6]), truth([]))
    assert ap(hit, alarm) == ap(alarm, hit) == pytest.approx([0.5] * 3)


def test_frames_without_detections_or_objects_count() -> None:
    accumulator = ApAccumulator((0.5,))
    accumulator.add(Detections.empty(), truth([0.0, 20.0]))
    accumulator.add(found([0.0], [0.9]), truth([]))
    accumulator.add(found([0.0, 20.0], [0.8, 0.7]), truth([0.0, 20.0]))
    result = accumulator.results()
    assert (result.ground_truths, result.detections, result.frames) == (4, 3, 3)
    assert result.ap[0.5] == pytest.approx(0.5 * 2 / 3)


def test_without_an_object_there_is_no_ap() -> None:
    result = ApAccumulator().results()
    assert result.ap == {0.3: None, 0.5: None, 0.7: None}
    assert ap((found([0.0], [0.9]), truth([]))) == [None, None, None]
    assert ap((Detections.empty(), truth([0.0]))) == [0.0, 0.0, 0.0]
    assert (ap_text(None), ap_text(0.0), ap_text(1.0)) == ("n/a", "0.000", "1.000")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_the_truth_given_as_detections_scores_one_at_every_threshold(seed: int, objects: int) -> None:
    rng = np.random.default_rng(seed)
    accumulator = ApAccumulator(tuple(np.linspace(0.05, 0.95, 19).tolist()))
    for _ in range(3):
        sizes, z_m, yaws = rng.uniform(0.5, 12, (objects, 3)), rng.uniform(-3, 1, objects), rng.uniform(-np.pi, np.pi, objects)
        # Labels do not overlap: each is in a place of its own.
        x_m, y_m = rng.uniform(-9, 9, objects) + 50 * np.arange(objects), rng.uniform(-50, 50, objects)
        boxes = boxes_to_corners(torch.from_numpy(np.column_stack((x_m, y_m, z_m, sizes, yaws))).float())
        scores = torch.from_numpy(rng.uniform(0, 1, objects)).float()
        accumulator.add(Detections.sorted(boxes, scores), GroundTruth(boxes, torch.arange(objects)))
    assert list(accumulator.results().ap.values()) == pytest.approx([1.0] * 19)


def test_merged_and_pickled_parts_are_the_whole() -> None:
    frames = [(found([0.0, 99.0], [0.9, 0.8]), truth([0.0])), (found([21.0], [0.85]), truth([0.0, 20.0]))]
    parts = [ApAccumulator(), ApAccumulator()]
    for part, frame in zip(parts, frames, strict=True):
        part.add(*frame)
    whole: ApAccumulator = pickle.loads(pickle.dumps(parts[0]))
    whole.merge(parts[1])
    assert list(whole.results().ap.values()) == ap(*frames)
    with pytest.raises(ValueError, match="cannot merge"):
        whole.merge(ApAccumulator((0.5,)))


def test_thresholds_are_checked() -> None:
    with pytest.raises(ValueError, match=r"in \(0, 1\]"):
        ApAccumulator((0.5, 70.0))


def test_curve_by_hand() -> None:
    precision, recall = precision_recall(np.array([True, False, True]), objects=4)
    assert recall.tolist() == [0.0, 0.25, 0.25, 0.5, 1.0]
    assert precision.tolist() == pytest.approx([1.0, 1.0, 2 / 3, 2 / 3, 0.0])
    assert area_under(precision, recall) == pytest.approx(0.25 + 0.25 * 2 / 3)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), max_size=30), st.integers(0, 10))
def test_the_area_is_a_share_and_a_hit_at_the_end_never_lowers_it(flags: list[bool], missed: int) -> None:
    objects = sum(flags) + missed + 1
    before = area_under(*precision_recall(np.array(flags, np.bool_), objects))
    after = area_under(*precision_recall(np.array([*flags, True], np.bool_), objects))
    assert 0.0 <= before <= after <= 1.0 + 1e-12


def test_recall_of_some_objects() -> None:
    detections, ground_truth = found([0.0, 40.0], [0.9, 0.5]), truth([0.0, 20.0, 40.0])
    assert matched_ground_truth(detections, ground_truth, 0.5).tolist() == [True, False, True]
    hidden = torch.tensor([False, True, True])
    assert recall_of(detections, ground_truth, hidden, 0.5) == Recall(found=1, objects=2)
    assert (Recall(1, 2) + Recall(2, 2)).value == 0.75
    assert Recall().value == 0.0
