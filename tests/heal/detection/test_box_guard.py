"""The guard of the ego's boxes: what is lost, what is put back, and that nothing stays lost."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from heal.detection.boxes import boxes_to_corners
from heal.detection.detections import Detections
from heal.detection.guard import GuardConfig, confident_boxes, keeps_enough, kept_boxes, put_back
from heal.errors import UserError

NMS_IOU = 0.15
DEFAULT = GuardConfig()


def found(*cars: tuple[float, float]) -> Detections:
    """Cars of 4 m x 2 m along the x axis, by the x of their centre and their score."""
    boxes = torch.tensor([[x, 0.0, -1.0, 1.5, 2.0, 4.0, 0.0] for x, _ in cars]).reshape(-1, 7)
    return Detections.sorted(boxes_to_corners(boxes), torch.tensor([score for _, score in cars]))


def x_and_score(detections: Detections) -> list[tuple[float, float]]:
    boxes = zip(detections.boxes[:, 0].tolist(), detections.scores.tolist(), strict=True)
    return [(round(x, 3), round(score, 3)) for x, score in boxes]


def test_boxes_above_the_score_are_confident_and_those_without_a_fused_box_are_lost() -> None:
    confident = confident_boxes(found((0, 0.9), (10, 0.7), (20, 0.5)), DEFAULT)
    assert x_and_score(confident) == [(0, 0.9), (10, 0.7)]
    # 3 m apart the overlap is 1 m of 7 m, 2.9 m apart 1.1 m of 6.9 m, which is just above 0.15.
    assert kept_boxes(confident, found((3.0, 0.8), (12.9, 0.3)), NMS_IOU).tolist() == [False, True]
    assert kept_boxes(confident, Detections.empty(), NMS_IOU).tolist() == [False, False]
    assert kept_boxes(Detections.empty(), confident, NMS_IOU).tolist() == []


@pytest.mark.parametrize(("kept", "enough"), [([], True), ([0], True), ([0, 1], False), ([1, 1, 1, 0], True), ([1, 1, 0], False)])
def test_three_of_four_are_enough_and_a_single_box_never_speaks_against_a_sender(kept: list[int], enough: bool) -> None:
    assert keeps_enough(torch.tensor(kept, dtype=torch.bool), DEFAULT) is enough


def test_what_is_lost_comes_back_with_its_score_and_replaces_nothing() -> None:
    fused = found((0.2, 0.95), (13.0, 0.4), (30, 0.3))
    result = put_back(found((10, 0.7)), fused)
    assert x_and_score(result) == [(0.2, 0.95), (10, 0.7), (13.0, 0.4), (30, 0.3)]


def test_where_nothing_is_lost_the_fused_boxes_are_the_same_object() -> None:
    fused = found((0, 0.3))
    assert put_back(Detections.empty(), fused) is fused


CARS = st.lists(st.tuples(st.floats(-30, 30), st.floats(-30, 30), st.floats(-3.2, 3.2), st.floats(0, 1, width=32)), max_size=12)


def _detections(cars: list[tuple[float, float, float, float]]) -> Detections:
    boxes = torch.tensor([[x, y, -1.0, 1.5, 2.0, 4.5, yaw] for x, y, yaw, _ in cars]).reshape(-1, 7)
    return Detections.sorted(boxes_to_corners(boxes), torch.tensor([score for *_, score in cars]))


@given(CARS, CARS)
def test_whatever_the_fusion_says_no_confident_box_is_lost(
    own: list[tuple[float, float, float, float]], fused_cars: list[tuple[float, float, float, float]]
) -> None:
    confident, fused = confident_boxes(_detections(own), DEFAULT), _detections(fused_cars)
    lost = confident.select(~kept_boxes(confident, fused, NMS_IOU))
    result = put_back(lost, fused)
    assert kept_boxes(confident, result, NMS_IOU).all()
    assert len(result) == len(fused) + len(lost)
    assert set(fused.scores.tolist()) <= set(result.scores.tolist())


@pytest.mark.parametrize("wrong", [{"score": 1.0}, {"share": 1.1}, {"suspicion": 0.0}, {"forgive_ms": 0.0}])
def test_settings_out_of_range_are_errors(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match="expected 0 <"):
        GuardConfig(**wrong)


def test_a_box_of_another_class_keeps_nothing_and_a_lost_one_comes_back_with_its_class() -> None:
    confident, fused = replace(found((0, 0.9), (10, 0.7)), classes=torch.tensor([1, 0])), found((0, 0.8), (10, 0.6))
    kept = kept_boxes(confident, fused, NMS_IOU)
    assert kept.tolist() == [False, True]
    assert put_back(confident.select(~kept), fused).classes.tolist() == [1, 0, 0]
