"""Average precision of several classes: a wrong class is a false alarm, and the mean is over the classes that have an object."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from heal.detection.boxes import boxes_to_corners
from heal.detection.detections import Detections, GroundTruth
from heal.detection.error_kinds import ErrorKinds, error_kinds_of
from heal.detection.heading import heading_error_of
from heal.detection.metrics import IOU_THRESHOLDS, ApAccumulator, match_in_all_kinds, recall_of
from heal.measures.breakdown import parts_of
from heal.measures.matches import SceneMatch, SceneMatches
from heal.measures.measure import Measure, Subset
from heal.measures.precision import average_precision, count_objects, resampled_precision
from heal.tools.shared.scene_matches import SCENES_NAME, read_scenes, write_scenes

NAMES = ("vehicle", "pedestrian", "cyclist")
Found = tuple[float, float, int]  # score, x of the middle, class


def corners(xs: list[float]) -> torch.Tensor:
    return boxes_to_corners(torch.tensor([[x, 0.0, -1.0, 1.5, 2.0, 4.0, 0.0] for x in xs]).reshape(-1, 7))


def boxes(found: list[Found], truth: list[tuple[float, int]]) -> tuple[Detections, GroundTruth]:
    """Detections and objects of the same size, along the x axis."""
    scores, places, classes = (list(part) for part in zip(*found, strict=True)) if found else ([], [], [])
    detections = Detections.sorted(corners(places), torch.tensor(scores), torch.tensor(classes, dtype=torch.int64))
    numbers = torch.tensor([number for _, number in truth], dtype=torch.int64)
    return detections, GroundTruth(corners([x for x, _ in truth]), torch.arange(len(truth)), numbers)


def matches_of(*frames: tuple[Detections, GroundTruth], keep: bool = False) -> SceneMatches:
    scenes = [
        SceneMatch.of(f"a/{i}", match_in_all_kinds(found, truth, IOU_THRESHOLDS), found, truth)
        for i, (found, truth) in enumerate(frames)
    ]
    return SceneMatches.of(scenes, frames if keep else (), class_names=NAMES)


# A vehicle at 0 m that is taken for a pedestrian, and a pedestrian at 20 m that is found.
CONFUSED = boxes([(0.9, 0.0, 1), (0.8, 20.0, 1)], [(0.0, 0), (20.0, 1)])
# The vehicle's own box comes too, in another frame, with a cyclist that nobody has seen.
RIGHT = boxes([(0.7, 0.0, 0)], [(0.0, 0), (40.0, 2)])


def test_a_box_of_the_wrong_class_is_a_false_alarm_and_finds_nothing() -> None:
    accumulator = ApAccumulator()
    accumulator.add(*CONFUSED)
    result = accumulator.results()
    assert {number: part.ap[0.5] for number, part in result.by_class.items()} == {0: 0.0, 1: 0.5}
    assert result.ap == dict.fromkeys(IOU_THRESHOLDS, 0.25) and result.by_class[1].curves[0].false_positives == 1
    right = boxes([(0.9, 0.0, 0), (0.8, 20.0, 1)], [(0.0, 0), (20.0, 1)])
    accumulator = ApAccumulator()
    accumulator.add(*right)
    assert accumulator.results().ap == dict.fromkeys(IOU_THRESHOLDS, 1.0)
    assert error_kinds_of(*CONFUSED) == ErrorKinds(right=1, false=1, missed=1)
    assert heading_error_of(*CONFUSED, 0.5).matched == 1
    assert recall_of(*CONFUSED, torch.tensor([True, False]), 0.5).value == 0.0


def test_frames_of_a_class_have_its_detections_and_its_objects_alone() -> None:
    found = [(0.9, 40.0, 2), (0.8, 20.0, 1), (0.7, 60.0, 1), (0.6, 0.0, 1)]
    [match] = [match_in_all_kinds(*boxes(found, [(0.0, 1), (40.0, 2), (20.0, 1)]), (0.5,))["bev"]]
    assert match.found_object.tolist() == [[1, 2, -1, 0]]
    people = match.of_class(1)
    assert people.found_object.tolist() == [[1, -1, 0]] and people.objects == 2
    assert (match.of_class(2).found_object.tolist(), match.of_class(0).objects) == ([[0]], 0)


def test_the_mean_is_over_the_classes_with_an_object_and_the_parts_name_them() -> None:
    matches = matches_of(CONFUSED, RIGHT)
    by_class = {name: average_precision(matches, Measure(subset=Subset(object_class=name))) for name in NAMES}
    assert by_class == {"vehicle": 0.5, "pedestrian": 0.5, "cyclist": 0.0}
    assert average_precision(matches, Measure()) == pytest.approx(1 / 3)
    assert average_precision(matches_of(CONFUSED), Measure()) == 0.25
    near = Subset(distance_m=(0, 10))
    assert average_precision(matches, Measure(subset=near)) == 0.5, "of the vehicles alone: no other object is near"
    assert str(Subset(distance_m=(0, 10), object_class="cyclist")) == "cyclist, 0-10 m"
    parts = {part.name: (part.objects, part.ap["0.5"]) for part in parts_of(matches) if part.kind == "class"}
    assert parts == {"vehicle": (2, 0.5), "pedestrian": (1, 0.5), "cyclist": (1, 0.0)}
    assert count_objects(matches, Subset()) == 4
    with pytest.raises(ValueError, match="tram"):
        average_precision(matches, Measure(subset=Subset(object_class="tram")))


def test_draws_are_means_over_the_classes_too() -> None:
    matches = matches_of(CONFUSED, RIGHT)
    drawn = resampled_precision(matches, Measure(), np.arange(2), np.array([[1, 1], [2, 0], [0, 1], [0, 0]]))
    assert drawn[:3] == pytest.approx([1 / 3, 0.25, 0.5]) and np.isnan(drawn[3])


def test_kept_matches_and_boxes_keep_the_classes(tmp_path: Path) -> None:
    matches = matches_of(CONFUSED, RIGHT, keep=True)
    write_scenes(tmp_path / SCENES_NAME, {"all": matches})
    read = read_scenes(tmp_path)["all"]
    assert read.class_names.tolist() == list(NAMES) and average_precision(read, Measure()) == pytest.approx(1 / 3)
    [(found, truth, _), _] = read.scenes()
    assert (found.classes.tolist(), truth.classes.tolist()) == ([1, 1], [0, 1])


def test_one_class_is_kept_as_before(tmp_path: Path) -> None:
    found, truth = boxes([(0.9, 0.0, 0)], [(0.0, 0)])
    scene = SceneMatch.of("a/0", match_in_all_kinds(found, truth, IOU_THRESHOLDS), found, truth)
    write_scenes(tmp_path / SCENES_NAME, {"all": SceneMatches.of([scene])})
    with np.load(tmp_path / SCENES_NAME) as file:
        assert not any("class" in name for name in file.files)
    assert read_scenes(tmp_path)["all"].truth_classes.tolist() == [0]
