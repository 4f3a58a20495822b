"""Average precision of kept matches by any measure, over all scenes or over draws of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from heal.detection.metrics import IOU_KINDS, RULES, IouKind, Rule, area_under, mean_ap, precision_recall
from heal.measures.matches import SEEN_FROM, UNKNOWN, SceneMatches
from heal.measures.measure import EVERYTHING, Measure, Subset
from heal.types import BoolMask, Float32, Float64, Int64

_CELLS = 4_000_000  # of an array, so that the draws need some hundred MB at most


def average_precision(matches: SceneMatches, measure: Measure) -> float | None:
    """Compute the average precision by a measure; None if its subset has no vehicle.

    Raises:
        ValueError: the matches are not at the measure's threshold.
    """
    return mean_ap([_precision_of_class(matches, one) for one in _by_class(matches, measure)])


def _precision_of_class(matches: SceneMatches, measure: Measure) -> float | None:
    ranked = _Ranked.of(matches, measure)
    objects = int(ranked.objects.sum())
    return area_under(*precision_recall(ranked.hits, objects)) if objects else None


def _by_class(matches: SceneMatches, measure: Measure) -> list[Measure]:
    """Return the measures, one for each class, over which a measure is the mean; the measure itself where it is of one class."""
    names = matches.class_names.tolist()
    if len(names) == 1 or measure.subset.object_class is not None:
        return [measure]
    return [replace(measure, subset=replace(measure.subset, object_class=name)) for name in names]


def count_objects(matches: SceneMatches, subset: Subset) -> int:
    """Return the number of vehicles of a subset."""
    return int(_wanted_objects(matches, subset).sum())


def resampled_precision(matches: SceneMatches, measure: Measure, unit_of_scene: Int64, counts: Int64) -> Float64:
    """Compute the average precision over scenes that count several times or not at all.

    A scene that counts several times is one scene with each of its detections as many times.

    Args:
        matches: of S scenes.
        measure: the measure.
        unit_of_scene: (S,) index of the unit of each scene; a unit is a scene, or several that are drawn together.
        counts: (B, U) how often each unit counts in each draw.

    Returns:
        (B,) NaN for a draw without a vehicle of the subset.
    """
    drawn = [_resampled(matches, one, unit_of_scene, counts) for one in _by_class(matches, measure)]
    if len(drawn) == 1:
        return drawn[0]
    known = ~np.isnan(drawn)
    with np.errstate(invalid="ignore"):
        mean: Float64 = np.where(known, drawn, 0.0).sum(axis=0) / known.sum(axis=0)
    return mean


def _resampled(matches: SceneMatches, measure: Measure, unit_of_scene: Int64, counts: Int64) -> Float64:
    """Compute the average precision over draws by a measure of one class; arguments as for `resampled_precision`."""
    ranked = _Ranked.of(matches, measure)
    units = unit_of_scene[ranked.scenes]
    objects = counts @ np.bincount(unit_of_scene, ranked.objects, minlength=counts.shape[1])
    step = max(1, _CELLS // max(len(units), 1))
    areas = [_areas(counts[at : at + step, units], ranked.hits) for at in range(0, len(counts), step)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(objects > 0, np.concatenate([np.zeros(0), *areas]) / objects, np.nan)


def all_measures(matches: SceneMatches) -> dict[IouKind, dict[Rule, dict[str, float | None]]]:
    """Return the average precision of all vehicles, by the overlap, the rule and the threshold as text."""
    return {iou: {rule: precision_by_threshold(matches, rule, iou) for rule in RULES} for iou in IOU_KINDS}


def precision_by_threshold(
    matches: SceneMatches, rule: Rule = "global", iou: IouKind = "bev", subset: Subset = EVERYTHING
) -> dict[str, float | None]:
    """Return the average precision at every threshold of the matches, by the threshold as text."""
    measures = [Measure(threshold, rule, iou, subset) for threshold in matches.thresholds.tolist()]
    return {str(measure.threshold): average_precision(matches, measure) for measure in measures}


@dataclass(frozen=True)
class _Ranked:
    """The L detections that a measure counts, in its order.

    Attributes:
        scenes: (L,) index of each detection's scene.
        hits: (L,) whether it found a vehicle of the subset.
        objects: (S,) number of vehicles of the subset in each scene.
    """

    scenes: Int64
    hits: BoolMask
    objects: Int64

    @staticmethod
    def of(matches: SceneMatches, measure: Measure) -> _Ranked:
        """Choose and sort the detections."""
        levels = np.flatnonzero(matches.thresholds == measure.threshold)
        if not len(levels):
            raise ValueError(f"{measure}: expected one of the thresholds {matches.thresholds.tolist()} of the matches")
        found, subset = matches.found(measure.iou)[levels[0]], measure.subset
        scenes = np.repeat(np.arange(len(matches.scene_ids)), matches.detections)
        wanted = _wanted_objects(matches, subset)
        hits = found >= 0
        first = np.cumsum(matches.objects) - matches.objects  # index of each scene's first vehicle
        counts = _inside(matches.distances_m, subset) & _of_class(matches, matches.classes, subset)
        counts[hits] = wanted[first[scenes[hits]] + found[hits]]
        chosen = np.flatnonzero(counts & _chosen_scenes(matches, subset)[scenes])
        if measure.rule == "global":
            chosen = chosen[np.argsort(-matches.scores[chosen], kind="stable")]
        return _Ranked(scenes[chosen], hits[chosen], _count_by_scene(matches, wanted))


def _count_by_scene(matches: SceneMatches, wanted: BoolMask) -> Int64:
    """Return (S,) how many of the vehicles (G,) of each scene are wanted."""
    scenes = np.repeat(np.arange(len(matches.scene_ids)), matches.objects)
    return np.bincount(scenes[wanted], minlength=len(matches.scene_ids)).astype(np.int64)


def _chosen_scenes(matches: SceneMatches, subset: Subset) -> BoolMask:
    """Return (S,) whether a scene counts."""
    chosen = matches.counted.copy() if subset.seen_by is not None else np.ones(len(matches.scene_ids), np.bool_)
    if subset.ego_type is not None:
        chosen &= matches.ego_types == subset.ego_type
    if subset.ego_sensor is not None:
        chosen &= matches.ego_sensors == subset.ego_sensor
    return chosen


def _wanted_objects(matches: SceneMatches, subset: Subset) -> BoolMask:
    """Return (G,) whether a vehicle is of a subset."""
    wanted = _inside(matches.truth_distances_m, subset) & np.repeat(_chosen_scenes(matches, subset), matches.objects)
    wanted &= _of_class(matches, matches.truth_classes, subset)
    ego, others = matches.ego_points, matches.other_points
    if subset.seen_by == "ego":
        wanted &= ego >= SEEN_FROM
    elif subset.seen_by == "others":
        wanted &= (ego != UNKNOWN) & (ego < SEEN_FROM) & (others >= SEEN_FROM)
    return wanted


def _inside(distances_m: Float32, subset: Subset) -> BoolMask:
    """Return (N,) whether a distance counts."""
    if subset.distance_m is None:
        return np.ones(len(distances_m), np.bool_)
    return (distances_m >= subset.distance_m[0]) & (distances_m < subset.distance_m[1])


def _of_class(matches: SceneMatches, classes: Int64, subset: Subset) -> BoolMask:
    """Return (N,) whether a class counts, of those given by their numbers; ValueError for a subset of an unknown class."""
    if subset.object_class is None:
        return np.ones(len(classes), np.bool_)
    chosen: BoolMask = classes == matches.class_names.tolist().index(subset.object_class)
    return chosen


def _areas(weights: npt.NDArray[np.int64], hits: BoolMask) -> Float64:
    """Return the areas (B,) under the curves of precision over the number of found vehicles.

    Args:
        weights: (B, L) how often each detection counts, in order.
        hits: (L,) whether the detection found a vehicle.
    """
    at = np.flatnonzero(hits)
    seen, found = np.maximum(np.cumsum(weights, axis=1)[:, at], 1), weights[:, at]
    precision = np.cumsum(found, axis=1) / seen
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    areas: Float64 = (found * best).sum(axis=1)
    return areas
