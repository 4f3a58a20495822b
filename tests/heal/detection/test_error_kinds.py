"""Errors by kind, worked out by hand on cars of 4 m by 2 m."""

import math

import pytest
import torch

from heal.detection.boxes import boxes_to_corners
from heal.detection.detections import Detections, GroundTruth
from heal.detection.error_kinds import ErrorKinds, error_kinds_of


def car(x: float = 0.0, y: float = 0.0, z: float = -1.0, h: float = 1.5, w: float = 2.0, l: float = 4.0, deg: float = 0.0):  # noqa: E741
    return [x, y, z, h, w, l, math.radians(deg)]


def found(*boxes: list[float]) -> Detections:
    """Return detections whose scores fall from 0.9 in the order of the boxes."""
    rows = torch.tensor(boxes).reshape(-1, 7)
    return Detections(boxes_to_corners(rows), 0.9 - 0.1 * torch.arange(len(rows)).float())


def true(*boxes: list[float]) -> GroundTruth:
    return GroundTruth(boxes_to_corners(torch.tensor(boxes).reshape(-1, 7)), torch.arange(len(boxes)))


@pytest.mark.parametrize(
    ("box", "kind"),
    [
        (car(0.3), "right"),
        (car(deg=180.0), "turned"),
        (car(0.1, deg=-175.0), "turned"),
        (car(z=-0.3), "height"),
        (car(h=2.3), "height"),
        (car(1.6), "place"),
        (car(0.2, 1.2), "place"),
        (car(w=1.2, l=2.8), "size"),
        (car(0.2, w=3.2, l=6.5), "size"),
        (car(0.1, deg=60.0), "heading"),
        (car(1.8, deg=180.0), "place"),
        (car(20.0), "false"),
    ],
)
def test_a_detection_has_the_kind_of_its_largest_error(box, kind):
    kinds = error_kinds_of(found(box), true(car()))
    expected = ErrorKinds(**{kind: 1}, missed=int(kind == "false"))
    assert kinds == expected


def test_an_object_has_one_detection_and_the_others_are_duplicates():
    kinds = error_kinds_of(found(car(1.6), car(0.1), car(0.2), car(30.0)), true(car()))
    assert kinds == ErrorKinds(right=1, duplicates=2, false=1), "a right box comes before a near one with a higher score"
    kinds = error_kinds_of(found(car(1.5), car(1.6)), true(car()))
    assert kinds == ErrorKinds(place=1, duplicates=1)


def test_missed_objects_are_split_by_their_points():
    kinds = error_kinds_of(found(car()), true(car(), car(10.0), car(20.0), car(30.0)), torch.tensor([0, 3, 5, 0]))
    assert kinds == ErrorKinds(right=1, missed=3, missed_unseen=2)
    assert error_kinds_of(found(), true(car(), car(10.0))) == ErrorKinds(missed=2)
    assert error_kinds_of(found(car()), true()) == ErrorKinds(false=1)
    assert error_kinds_of(found(), true()) == ErrorKinds()


def test_faint_detections_can_be_left_out():
    kinds = error_kinds_of(found(car(), car(10.0), car(20.0)), true(car(), car(10.0)), min_score=0.75)
    assert kinds == ErrorKinds(right=2)


def test_scenes_add_up_and_every_detection_and_object_has_one_kind():
    generator = torch.Generator().manual_seed(0)
    total, detections, objects = ErrorKinds(), 0, 0
    for _ in range(10):
        truth = torch.tensor([car(8.0 * k, 0.0) for k in range(6)])
        noisy = truth[torch.randint(0, 6, (9,), generator=generator)] + torch.randn(9, 7, generator=generator) * 0.4
        noisy[:, 3:6] = noisy[:, 3:6].clamp(min=0.5)
        kinds = error_kinds_of(Detections(boxes_to_corners(noisy), torch.linspace(0.9, 0.1, 9)), true(*truth.tolist()))
        total, detections, objects = total + kinds, detections + 9, objects + 6
    counts = total.counts()
    one_object_each = sum(counts[name] for name in ("right", "turned", "height", "place", "size", "heading"))
    assert one_object_each + counts["duplicates"] + counts["false"] == detections
    assert one_object_each + counts["missed"] == objects
    assert counts["right"] and counts["duplicates"] and counts["missed"]
