"""Average precision of detections, in stages that are pure functions: match each frame, sort all frames, compute curve and area.

A detection can only find an object of its own class. Where there are several classes, the average precision is the mean over those
that have an object.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from heal.detection.boxes import bottom_rectangles
from heal.detection.detections import Detections, GroundTruth
from heal.detection.rotated_iou import rotated_iou, upright_iou
from heal.types import BoolMask, Float32, Float64, Int64

Indices = npt.NDArray[np.intp]
Rule = Literal["global", "per_frame"]
IouKind = Literal["bev", "3d"]
RULES: tuple[Rule, ...] = get_args(Rule)
IOU_KINDS: tuple[IouKind, ...] = get_args(IouKind)
_IOU_TEXTS: Mapping[IouKind, str] = {"bev": "bird's-eye-view IoU", "3d": "3D IoU"}
_RULE_TEXTS: Mapping[Rule, str] = {
    "global": "detections of all frames sorted by score",
    "per_frame": "detections of one frame after the other",
}


def ap_rule(rule: Rule = "global", iou: IouKind = "bev") -> str:
    """Return a rule of AP in words, printed beside every number: values of different rules cannot be compared.

    Args:
        rule: "global" sorts the detections of all frames by score. "per_frame" takes them frame after frame, each frame's by
            score, as early evaluations on OPV2V did; the result then depends on the order of the frames.
        iou: whether boxes overlap in bird's-eye view or in space.
    """
    return f"{_IOU_TEXTS[iou]}, {_RULE_TEXTS[rule]}, all-point interpolation (VOC 2010)"


AP_RULE = ap_rule()
IOU_THRESHOLDS = (0.3, 0.5, 0.7)
# Printed in place of a number whose denominator is zero.
NOT_AVAILABLE = "n/a"


@dataclass(frozen=True)
class FrameMatch:
    """The result of matching one frame's detections with its objects at several IoU thresholds.

    Attributes:
        scores: (D,) float32, descending.
        found_object: (T, D) int32, index of the object that a detection found at a threshold; -1 if it found none.
        objects: number G of objects.
        classes: (D,) int64, class of each detection. May be left out, as the next one, where there is one class.
        object_classes: (G,) int64, class of each object.
    """

    scores: Float32
    found_object: npt.NDArray[np.int32]
    objects: int
    classes: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    object_classes: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        """Fill in the classes."""
        for name, count in (("classes", len(self.scores)), ("object_classes", self.objects)):
            if not len(getattr(self, name)):
                object.__setattr__(self, name, np.zeros(count, np.int64))

    @property
    def true_positive(self) -> BoolMask:
        """Whether a detection found an object at a threshold, (T, D)."""
        return self.found_object >= 0

    @property
    def found(self) -> BoolMask:
        """Whether an object was found at a threshold, (T, G)."""
        found = np.zeros((len(self.found_object), self.objects), np.bool_)
        level, row = self.true_positive.nonzero()
        found[level, self.found_object[level, row]] = True
        return found

    def of_class(self, number: int) -> FrameMatch:
        """Return the match of the detections and the objects of one class alone."""
        chosen, objects = self.classes == number, self.object_classes == number
        place = np.append(np.cumsum(objects) - 1, -1).astype(np.int32)  # of each object among those of the class
        found = place[self.found_object[:, chosen]]
        return FrameMatch(self.scores[chosen], found, int(objects.sum()), self.classes[chosen], self.object_classes[objects])


@dataclass(frozen=True)
class ApCurve:
    """Precision over recall at one IoU threshold.

    Attributes:
        iou_threshold: the least overlap that finds an object.
        ap: area under the curve, in [0, 1]; None if there is no object, because recall is then undefined.
        precision: (K + 2,) float64, made monotone from the right, with a sentinel at each end.
        recall: (K + 2,) float64, ascending from 0 to 1.
        true_positives: number of detections that found an object.
        false_positives: number of the other detections.
    """

    iou_threshold: float
    ap: float | None
    precision: Float64
    recall: Float64
    true_positives: int
    false_positives: int


@dataclass(frozen=True)
class ApResult:
    """Average precision over all frames, one curve per threshold.

    Attributes:
        curves: in the order of the thresholds, over all detections whatever their class.
        ground_truths: number of objects.
        detections: number of detections.
        frames: number of frames.
        by_class: the result of each class that has an object or a detection, by its number; empty where there is one class alone.
    """

    curves: tuple[ApCurve, ...]
    ground_truths: int
    detections: int
    frames: int
    by_class: Mapping[int, ApResult] = field(default_factory=dict)

    @property
    def ap(self) -> dict[float, float | None]:
        """Average precision by IoU threshold, of several classes the mean; None if there is no object."""
        if not self.by_class:
            return {curve.iou_threshold: curve.ap for curve in self.curves}
        results = [result.ap for result in self.by_class.values()]
        return {curve.iou_threshold: mean_ap([ap[curve.iou_threshold] for ap in results]) for curve in self.curves}


class ApAccumulator:
    """Collects matched frames and computes their average precision; accumulators of several processes can be merged."""

    def __init__(self, iou_thresholds: Sequence[float] = IOU_THRESHOLDS) -> None:
        """Start empty.

        Args:
            iou_thresholds: the least overlaps, in (0, 1], that find an object.
        """
        if not iou_thresholds or not all(0.0 < threshold <= 1.0 for threshold in iou_thresholds):
            raise ValueError(f"ApAccumulator: expected IoU thresholds in (0, 1], got {list(iou_thresholds)}")
        self.iou_thresholds = tuple(iou_thresholds)
        self._frames: list[FrameMatch] = []

    @property
    def frames(self) -> tuple[FrameMatch, ...]:
        """All frames so far."""
        return tuple(self._frames)

    def add(self, detections: Detections, ground_truth: GroundTruth) -> None:
        """Match one frame and add it; both arguments are in the ego's frame and may be empty."""
        self.add_match(match_frame(detections, ground_truth, self.iou_thresholds))

    def add_match(self, match: FrameMatch) -> None:
        """Add one frame that is already matched at these thresholds."""
        self._frames.append(match)

    def merge(self, other: ApAccumulator) -> None:
        """Append all frames of `other`; ValueError if its thresholds differ."""
        if other.iou_thresholds != self.iou_thresholds:
            raise ValueError(f"ApAccumulator: cannot merge thresholds {other.iou_thresholds} into {self.iou_thresholds}")
        self._frames.extend(other._frames)

    def results(self) -> ApResult:
        """Compute the average precision of all frames so far."""
        return average_precision(self._frames, self.iou_thresholds)


def mean_ap(values: Sequence[float | None]) -> float | None:
    """Return the mean of average precisions, of those that there are; None if there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def match_frame(detections: Detections, ground_truth: GroundTruth, iou_thresholds: Sequence[float]) -> FrameMatch:
    """Match each detection, best first, with the object of its class that it overlaps most among the objects not yet found.

    The detection finds that object if the overlap in bird's-eye view is at least the threshold.

    Args:
        detections: of one frame, in the ego's frame.
        ground_truth: the objects of the same frame, in the ego's frame.
        iou_thresholds: T overlaps.
    """
    return _matched(detections, ground_truth, bev_overlaps(detections, ground_truth), iou_thresholds)


def match_in_all_kinds(
    detections: Detections, ground_truth: GroundTruth, iou_thresholds: Sequence[float]
) -> dict[IouKind, FrameMatch]:
    """Match one frame as `match_frame` does, once by the overlap in bird's-eye view and once by that in space."""
    bev = bev_overlaps(detections, ground_truth)
    overlaps: dict[IouKind, Tensor] = {"bev": bev, "3d": upright_iou(bev, detections.corners, ground_truth.corners)}
    return {kind: _matched(detections, ground_truth, iou, iou_thresholds) for kind, iou in overlaps.items()}


def bev_overlaps(found: Detections, others: Detections | GroundTruth) -> Tensor:
    """Compute the overlaps in bird's-eye view (D, G) of detections with objects or detections; 0 for those of other classes."""
    iou = rotated_iou(bottom_rectangles(found.corners), bottom_rectangles(others.corners))
    return iou.masked_fill_(found.classes[:, None] != others.classes, 0.0)


def _matched(detections: Detections, truth: GroundTruth, iou: Tensor, iou_thresholds: Sequence[float]) -> FrameMatch:
    found = match_overlaps(iou.cpu().numpy(), iou_thresholds)
    scores, *classes = (part.cpu().numpy() for part in (detections.scores, detections.classes, truth.classes))
    return FrameMatch(scores, found, len(truth), *classes)


def match_overlaps(iou: Float32, iou_thresholds: Sequence[float]) -> npt.NDArray[np.int32]:
    """Match the rows of an overlap matrix, in turn, to its columns, at all thresholds at once.

    The result is that of a loop over the rows in which each row takes the free column that it overlaps most, but a few rounds
    suffice: in a round, each row asks for its best column, each column keeps the first row that asks and refuses the others, and
    refused rows ask for their next best column in the next round.

    Args:
        iou: (D, G) overlaps of detections, best first, with objects.
        iou_thresholds: the T least overlaps that find an object.

    Returns:
        (T, D) index of the object that a detection found; -1 if it found none.
    """
    rows, columns = iou.shape
    found_object = np.full((len(iou_thresholds), rows), -1, np.int32)
    hits, objects = _matches(iou, iou_thresholds)
    found_object.flat[hits] = objects % max(columns, 1)
    return found_object


def matched_pairs(iou: Float32, iou_threshold: float) -> tuple[Indices, Indices]:
    """Return the rows and the columns (K,) of the K pairs that `match_overlaps` finds at one threshold."""
    return _matches(iou, (iou_threshold,))


def _matches(iou: Float32, iou_thresholds: Sequence[float]) -> tuple[Indices, Indices]:
    """Return the matched pairs of all thresholds: flat indices (K,) into (T, D) and into (T, G)."""
    rows, columns = iou.shape
    level, row, column = (iou >= np.asarray(iou_thresholds, iou.dtype)[:, None, None]).nonzero()
    order = np.lexsort((-iou[row, column], level * rows + row))  # of equal overlaps the first column
    asking, asked = (level * rows + row)[order], (level * columns + column)[order]
    while True:
        wish = np.flatnonzero(np.diff(asking, prepend=-1))
        holder = np.full(len(iou_thresholds) * columns, len(iou_thresholds) * rows)
        np.minimum.at(holder, asked[wish], asking[wish])
        accepted = asking <= holder[asked]
        if accepted.all():
            return asking[wish], asked[wish]
        asking, asked = asking[accepted], asked[accepted]


def ap_text(ap: float | None) -> str:
    """Return an average precision with three decimals, or "n/a" where there is no object."""
    return NOT_AVAILABLE if ap is None else f"{ap:.3f}"


def average_precision(frames: Iterable[FrameMatch], iou_thresholds: Sequence[float]) -> ApResult:
    """Compute the average precision of matched frames; the detections of all frames are sorted by score (a stable sort).

    Args:
        frames: the frames, matched at these thresholds.
        iou_thresholds: T overlaps.
    """
    matched = list(frames)
    pooled = _over_all(matched, iou_thresholds)
    numbers = sorted({number for frame in matched for part in (frame.classes, frame.object_classes) for number in part.tolist()})
    if len(numbers) < 2:
        return pooled
    by_class = {number: _over_all([frame.of_class(number) for frame in matched], iou_thresholds) for number in numbers}
    return replace(pooled, by_class=by_class)


def _over_all(matched: Sequence[FrameMatch], iou_thresholds: Sequence[float]) -> ApResult:
    """Compute the average precision of matched frames, whatever the classes of their detections."""
    scores = np.concatenate([np.zeros(0, np.float32), *(frame.scores for frame in matched)])
    flags = np.concatenate([np.zeros((len(iou_thresholds), 0), np.bool_), *(frame.true_positive for frame in matched)], axis=1)
    objects = sum(frame.objects for frame in matched)
    ranks = np.argsort(-scores, kind="stable")
    curves = tuple(_curve(row[ranks], objects, threshold) for row, threshold in zip(flags, iou_thresholds, strict=True))
    return ApResult(curves, objects, len(scores), len(matched))


def precision_recall(true_positive: BoolMask, objects: int) -> tuple[Float64, Float64]:
    """Compute the precision-recall curve of detections sorted by score.

    Args:
        true_positive: (K,) bool, best first.
        objects: number of objects.

    Returns:
        precision: (K + 2,) the highest precision at this recall or a higher one; the sentinels count as 0.
        recall: (K + 2,) with the sentinels 0 and 1 at the ends.
    """
    hits = np.cumsum(true_positive, dtype=np.float64)
    precision = np.concatenate([[0.0], hits / np.arange(1, len(hits) + 1), [0.0]])
    recall = np.concatenate([[0.0], hits / max(objects, 1), [1.0]])
    return np.maximum.accumulate(precision[::-1])[::-1], recall


def area_under(precision: Float64, recall: Float64) -> float:
    """Compute the area under a precision-recall curve, with all its points (VOC 2010)."""
    return float(((recall[1:] - recall[:-1]) * precision[1:]).sum())


def matched_ground_truth(detections: Detections, ground_truth: GroundTruth, iou_threshold: float) -> Tensor:
    """Return which objects of a frame were found; (G,) bool, in the order and on the device of `ground_truth`."""
    found = match_frame(detections, ground_truth, (iou_threshold,)).found[0]
    return torch.from_numpy(found).to(ground_truth.ids.device)


@dataclass(frozen=True)
class Recall:
    """The share of objects that were found; `+` adds the counts of several frames.

    Attributes:
        found: number of objects that were found.
        objects: number of objects.
    """

    found: int = 0
    objects: int = 0

    def __add__(self, other: Recall) -> Recall:
        """Add the counts of both."""
        return Recall(self.found + other.found, self.objects + other.objects)

    @property
    def value(self) -> float:
        """The share in [0, 1]; 0 without any object."""
        return self.found / self.objects if self.objects else 0.0


def recall_of(detections: Detections, ground_truth: GroundTruth, mask: Tensor, iou_threshold: float) -> Recall:
    """Compute the recall of some objects of a frame, such as the objects that the ego cannot see.

    All objects take part in the matching, so a detection of another object does not count for an object of interest.

    Args:
        detections: the detections of one frame.
        ground_truth: all G objects of the frame.
        mask: (G,) bool, the objects of interest.
        iou_threshold: the least overlap that finds an object.
    """
    found = matched_ground_truth(detections, ground_truth, iou_threshold)
    return Recall(int((found & mask).sum()), int(mask.sum()))


def _curve(true_positive: BoolMask, objects: int, iou_threshold: float) -> ApCurve:
    precision, recall = precision_recall(true_positive, objects)
    hits = int(true_positive.sum())
    ap = area_under(precision, recall) if objects else None
    return ApCurve(iou_threshold, ap, precision, recall, hits, len(true_positive) - hits)
