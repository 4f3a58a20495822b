"""Every measure against numbers computed by hand and against a naive form; draws of frames, and the breakdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from heal.detection.boxes import boxes_to_corners
from heal.detection.detections import Detections, GroundTruth
from heal.detection.metrics import IOU_THRESHOLDS, area_under, match_in_all_kinds, precision_recall
from heal.detection.metrics import average_precision as plain_precision
from heal.detection.visibility import SceneVisibility
from heal.errors import UserError
from heal.measures.breakdown import breakdown_record, parts_of, subsets_of
from heal.measures.matches import SceneFacts, SceneMatch, SceneMatches
from heal.measures.measure import Measure, Subset
from heal.measures.precision import all_measures, average_precision, count_objects, resampled_precision
from heal.tools.shared.intervals import paired_difference

Place = tuple[float, float]  # x and z of a car's middle


def cars(*places: Place) -> torch.Tensor:
    """Return corners of cars, 4 m long, 2 m wide and 2 m high, on a line through the ego."""
    return boxes_to_corners(torch.tensor([[x, 0.0, z, 2.0, 2.0, 4.0, 0.0] for x, z in places]).reshape(-1, 7))


def scene(
    name: str,
    found: Sequence[tuple[float, Place]],
    truth: Sequence[Place],
    points: Sequence[tuple[int, int]] | None = None,
    ego: tuple[str, str] = ("m1", "lidar"),
) -> SceneMatch:
    """Return a scene: scores and places of detections, places of cars, and the points of the ego and of another agent on them."""
    detections = Detections.sorted(cars(*(place for _, place in found)), torch.tensor([score for score, _ in found]))
    objects = GroundTruth(cars(*truth), torch.arange(len(truth)))
    counts = None if points is None else np.array(points, np.int64).reshape(-1, 2).T
    seen = None if counts is None else SceneVisibility(np.arange(len(truth)), counts[0], counts[1])
    facts = SceneFacts.of(objects, seen, *ego)
    return SceneMatch.of(name, match_in_all_kinds(detections, objects, IOU_THRESHOLDS), detections, objects, facts)


def ap(scenes: Sequence[SceneMatch], **measure: object) -> float | None:
    return average_precision(SceneMatches.of(scenes), Measure(**measure))  # type: ignore[arg-type]


def test_the_global_rule_sorts_all_frames_and_the_older_one_does_not() -> None:
    # A hit with score 0.4, then in the next frame a false alarm with 0.9 and a hit with 0.8: two of two cars are found.
    frames = [scene("a/0", [(0.4, (10, 0))], [(10, 0)]), scene("a/1", [(0.9, (40, 0)), (0.8, (20, 0))], [(20, 0)])]
    assert ap(frames) == pytest.approx(2 / 3)  # precision 0, 1/2, 2/3
    assert ap(frames, rule="per_frame") == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)  # 1, 1/2, 2/3
    assert ap(frames[::-1], rule="per_frame") == pytest.approx(2 / 3)  # 0, 1/2, 2/3: the order of the frames counts


def test_in_space_the_height_counts_too() -> None:
    # The boxes lie on each other, the one 1 m higher: of 3 m of height they share 1 m, so the overlap in space is 1/3.
    higher = [scene("a/0", [(0.9, (10, 1))], [(10, 0)])]
    assert [ap(higher, threshold=threshold) for threshold in IOU_THRESHOLDS] == [1, 1, 1]
    assert [ap(higher, threshold=threshold, iou="3d") for threshold in IOU_THRESHOLDS] == [1, 0, 0]
    # Shifted by 1 m along 4 m, 3/5 of the area and all of the height: 3/5.
    assert [ap([scene("a/0", [(0.9, (11, 0))], [(10, 0)])], threshold=t, iou="3d") for t in IOU_THRESHOLDS] == [1, 1, 0]
    assert ap([scene("a/0", [(0.9, (10, 9))], [(10, 0)])], iou="3d", threshold=0.3) == 0


def test_cars_at_other_distances_are_ignored_and_false_alarms_count_by_their_own() -> None:
    # The near car is found; the far one is found with a better score; a false alarm lies near, one lies far.
    frame = [scene("a/0", [(0.9, (45, 0)), (0.8, (20, 0)), (0.7, (10, 0)), (0.6, (39, 0))], [(10, 0), (45, 0)])]
    near, far = Subset(distance_m=(0, 30)), Subset(distance_m=(30, math.inf))
    assert ap(frame) == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
    assert ap(frame, subset=near) == pytest.approx(1 / 2)  # a false alarm, then the hit; the hit of the far car is neither
    assert ap(frame, subset=far) == 1.0  # the hit first, then a false alarm
    assert ap(frame, subset=Subset(distance_m=(60, 70))) is None


def test_a_detection_of_an_ignored_car_is_neither_right_nor_wrong_on_either_side_of_the_border() -> None:
    # The car is at 31 m, its detection at 29.8 m: by its own distance it would be a false alarm of the near ones.
    frame = [scene("a/0", [(0.9, (29.8, 0)), (0.5, (5, 0))], [(31, 0), (5, 0)])]
    assert ap(frame, subset=Subset(distance_m=(0, 30))) == 1.0
    assert ap(frame, subset=Subset(distance_m=(30, 50))) == 1.0


def test_who_sees_a_car_decides_by_five_points_and_false_alarms_count_against_both() -> None:
    points = [(5, 0), (4, 5), (4, 4)]  # seen by the ego, only by another agent, by nobody
    found = [(0.9, (10, 0)), (0.8, (20, 0)), (0.7, (30, 0)), (0.95, (60, 0))]
    frame = [scene("a/0", found, [(10, 0), (20, 0), (30, 0)], points)]
    assert ap(frame) == pytest.approx(3 / 4)
    assert ap(frame, subset=Subset(seen_by="ego")) == ap(frame, subset=Subset(seen_by="others")) == pytest.approx(1 / 2)
    unknown = scene("a/1", [(0.99, (60, 0))], [(20, 0)])  # without counts: no part of either subset, its false alarm neither
    matches = SceneMatches.of([*frame, unknown])
    assert [count_objects(matches, Subset(seen_by=seer)) for seer in ("ego", "others")] == [1, 1]
    assert average_precision(matches, Measure(subset=Subset(seen_by="ego"))) == pytest.approx(1 / 2)


def test_scenes_are_grouped_by_the_type_of_the_ego_and_its_sensors() -> None:
    scenes = [
        scene("a/0", [(0.9, (10, 0))], [(10, 0)]),
        scene("a/1", [(0.95, (40, 0))], [(20, 0)], ego=("m2", "camera")),
        scene("a/2", [(0.8, (20, 0))], [(20, 0)], ego=("m4", "camera")),
    ]
    by = {name: ap(scenes, subset=Subset(ego_type=name)) for name in ("m1", "m2", "m4", "m9")}
    assert by == {"m1": 1.0, "m2": 0.0, "m4": 1.0, "m9": None}
    assert ap(scenes, subset=Subset(ego_sensor="camera")) == pytest.approx(1 / 2 * 1 / 2)
    assert ap(scenes, subset=Subset(ego_sensor="camera", distance_m=(0, 30))) == pytest.approx(1 / 2)


def random_scenes(seed: int, scenes: int = 12) -> list[SceneMatch]:
    rng = np.random.default_rng(seed)
    made = []
    for number in range(scenes):
        truth = [(float(x), 0.0) for x in 8 * np.arange(rng.integers(0, 9)) - 30]
        found = [
            (float(rng.random()), (x + float(rng.normal(0, 0.7)), float(rng.normal(0, 0.4))))
            for x, _ in truth
            if rng.random() < 0.7
        ]
        found += [(float(rng.random()), (float(rng.uniform(-70, 70)), 0.0)) for _ in range(rng.integers(0, 3))]
        points = None if number == 3 else [tuple(map(int, rng.integers(0, 9, 2))) for _ in truth]
        made.append(
            scene(f"town_{number // 3}/{number}", found, truth, points, ("m1", "lidar") if number % 2 else ("m2", "camera"))
        )  # type: ignore[arg-type]
    return made


MEASURES = [
    Measure(),
    Measure(0.7, "per_frame"),
    Measure(0.3, iou="3d", subset=Subset(distance_m=(10, 25))),
    Measure(0.5, "per_frame", "3d", Subset(seen_by="others")),
    Measure(0.5, subset=Subset(seen_by="ego", ego_sensor="camera")),
    Measure(0.5, subset=Subset(ego_type="m2", distance_m=(20, math.inf))),
]


def naive(scenes: Sequence[SceneMatch], measure: Measure) -> float | None:
    """Compute the measure detection by detection."""
    subset, level = measure.subset, IOU_THRESHOLDS.index(measure.threshold)
    rows: list[tuple[float, bool]] = []
    objects = 0
    for one in scenes:
        facts, match = one.facts, one.matches[measure.iou]
        if subset.ego_type not in (None, facts.ego_type) or subset.ego_sensor not in (None, facts.ego_sensor):
            continue
        if subset.seen_by and facts.ego_points is None:
            continue
        low, high = subset.distance_m or (0, math.inf)

        def wanted(g: int) -> bool:
            inside = low <= one.truth_distances_m[g] < high  # noqa: B023
            if subset.seen_by is None:
                return inside
            ego, other = one.facts.ego_points[g], one.facts.other_points[g]  # type: ignore[index]  # noqa: B023
            return inside and (ego >= 5 if subset.seen_by == "ego" else ego < 5 <= other)

        objects += sum(wanted(g) for g in range(match.objects))
        for d, g in enumerate(match.found_object[level]):
            if wanted(g) if g >= 0 else low <= one.distances_m[d] < high:
                rows.append((match.scores[d], g >= 0))
    if measure.rule == "global":
        rows.sort(key=lambda row: -row[0])
    return area_under(*precision_recall(np.array([hit for _, hit in rows], np.bool_), objects)) if objects else None


@pytest.mark.parametrize("measure", MEASURES, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_a_measure_is_its_naive_form(measure: Measure, seed: int) -> None:
    scenes = random_scenes(seed)
    expected = naive(scenes, measure)
    assert (
        average_precision(SceneMatches.of(scenes), measure) == pytest.approx(expected) and expected is not None and 0 < expected < 1
    )


@pytest.mark.parametrize("measure", MEASURES, ids=str)
def test_a_draw_is_the_measure_of_the_scenes_so_repeated(measure: Measure) -> None:
    scenes = random_scenes(0)
    matches, units = SceneMatches.of(scenes), np.arange(len(scenes))
    once_or_not = np.random.default_rng(1).integers(0, 2, (10, len(scenes)))
    drawn = resampled_precision(matches, measure, units, once_or_not)
    for value, counts in zip(drawn, once_or_not, strict=True):
        expected = naive([one for one, count in zip(scenes, counts, strict=True) if count], measure)
        assert value == pytest.approx(math.nan if expected is None else expected, nan_ok=True)
    twice = resampled_precision(matches, measure, units, np.full((1, len(scenes)), 2))
    assert twice[0] == pytest.approx(average_precision(matches, measure), abs=0.05)
    if measure.rule == "global":
        repeated = naive([one for one in scenes for _ in range(2)], measure)
        assert twice[0] == pytest.approx(repeated)


def test_the_default_is_the_ap_of_the_accumulator_to_the_last_bit() -> None:
    scenes = random_scenes(4)
    plain = plain_precision([one.matches["bev"] for one in scenes], IOU_THRESHOLDS).ap
    matches = SceneMatches.of(scenes)
    assert all_measures(matches)["bev"]["global"] == {str(threshold): value for threshold, value in plain.items()}
    with pytest.raises(ValueError, match=r"AP@0\.6: expected one of the thresholds"):
        average_precision(matches, Measure(0.6))


def test_the_breakdown_names_every_part_that_has_a_car() -> None:
    points = [(9, 0), (0, 9)]
    scenes = [scene("a/0", [(0.9, (10, 0))], [(10, 0), (45, 0)], points), scene("a/1", [], [(120, 0)], [(0, 0)], ("m2", "camera"))]
    matches = SceneMatches.of(scenes)
    assert {kind: list(parts) for kind, parts in subsets_of(matches).items()} == {
        "distance": ["0-30 m", "30-50 m", "from 100 m"],
        "visibility": ["seen by the ego", "seen only by others"],
        "ego_type": ["m1", "m2"],
        "ego_sensor": ["camera", "lidar"],
    }
    record = breakdown_record(parts_of(matches, (50.0,), "per_frame", "3d"))
    assert record["distance"]["0-50 m"] == {"objects": 2, "ap": dict.fromkeys(("0.3", "0.5", "0.7"), 0.5)}
    assert record["ego_type"]["m2"] == {"objects": 1, "ap": dict.fromkeys(("0.3", "0.5", "0.7"), 0.0)}
    assert breakdown_record(parts_of(SceneMatches.of([]))) == {}


def test_differences_pair_the_frames_and_pool_the_seeds() -> None:
    ours, theirs = ([SceneMatches.of(random_scenes(seed)) for seed in seeds] for seeds in ((0, 0), (0,)))
    same = paired_difference(ours, theirs, Measure())
    assert (same.difference, same.low, same.high, same.is_clear) == (0, 0, 0, False)
    truth = [(10.0, 0.0), (20.0, 0.0)]
    names = [f"town/{number}" for number in range(20)]
    one, half, none = (
        SceneMatches.of([scene(name, [(0.9, place) for place in truth[:count]], truth) for name in names]) for count in (2, 1, 0)
    )
    clear = paired_difference([one, none], [none], Measure(0.7))
    assert clear.difference == clear.low == clear.high == pytest.approx(0.5) and clear.is_clear
    assert paired_difference([none], [half, one], Measure(0.7)).difference == pytest.approx(-0.75)
    assert paired_difference([one], [none], Measure(0.7), "group").low is None, "one town alone gives no interval"
    assert paired_difference([one], [none], Measure(subset=Subset(ego_type="m9"))).difference is None
    fewer = replace(one, scene_ids=one.scene_ids[::-1])
    with pytest.raises(UserError, match="another order"):
        paired_difference([one, fewer], [none], Measure())


def test_titles_and_conditions() -> None:
    assert str(Measure()) == "AP@0.5"
    subset = Subset((100, math.inf), "others", "m2", "camera")
    assert (
        str(Measure(0.7, "per_frame", "3d", subset))
        == "AP@0.7, 3d, per_frame, from 100 m, seen only by others, ego m2, ego with camera"
    )
    with pytest.raises(ValueError, match="the lesser first"):
        Subset(distance_m=(30, 20))
