"""Detections and ground truth check themselves."""

import pytest
import torch

from heal.detection.boxes import boxes_to_corners
from heal.detection.detections import Detections, GroundTruth


def corners(count: int) -> torch.Tensor:
    boxes = torch.tensor([[0.0, 0.0, 0.0, 1.5, 2.0, 4.0, 0.3]]).repeat(count, 1)
    boxes[:, 0] = torch.arange(count) * 10
    return boxes_to_corners(boxes)


def test_sorted_puts_the_best_first_and_keeps_the_order_of_equals() -> None:
    found = Detections.sorted(corners(4), torch.tensor([0.2, 0.9, 0.5, 0.9]))
    assert torch.allclose(found.scores, torch.tensor([0.9, 0.9, 0.5, 0.2]))
    assert torch.allclose(found.boxes[:, 0], torch.tensor([10.0, 30.0, 20.0, 0.0]), atol=1e-5)


def test_select_and_length() -> None:
    found = Detections.sorted(corners(3), torch.tensor([0.9, 0.5, 0.2])).select(torch.tensor([True, False, True]))
    assert len(found) == 2
    truth = GroundTruth(corners(3), torch.tensor([7, 8, 9])).select(torch.tensor([2]))
    assert truth.ids.tolist() == [9]
    assert truth.boxes.shape == (1, 7)


def test_empty() -> None:
    assert len(Detections.empty()) == len(GroundTruth.empty()) == 0
    assert Detections.empty().boxes.shape == GroundTruth.empty().boxes.shape == (0, 7)


@pytest.mark.parametrize(
    ("shape", "scores", "message"),
    [
        ((2, 8, 3), [0.1, 0.9], "descending"),
        ((2, 8, 3), [0.1, float("nan")], "descending"),
        ((2, 8, 3), [0.9], r"of shape \(2,\)"),
        ((2, 4, 3), [0.9, 0.1], r"of shape \(N, 8, 3\)"),
    ],
)
def test_bad_detections_are_refused(shape: tuple[int, ...], scores: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Detections(torch.zeros(shape), torch.tensor(scores))


def test_bad_ground_truth_is_refused() -> None:
    with pytest.raises(ValueError, match="int64"):
        GroundTruth(torch.zeros(2, 8, 3), torch.zeros(2))
    with pytest.raises(ValueError, match="float32"):
        GroundTruth(torch.zeros(2, 8, 3, dtype=torch.float64), torch.zeros(2, dtype=torch.int64))
