"""The kinds of a detector's errors: boxes that are off by place, size, heading or height, doubled and false boxes, missed objects.

Average precision says how much goes wrong, and not why. Here every detection and every object of a scene gets one kind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from heal.box_corners import YAW, H, L, W, X, Y, Z
from heal.detection.boxes import bottom_rectangles, boxes_to_corners, corners_to_boxes, limit_period
from heal.detection.detections import Detections, GroundTruth
from heal.detection.metrics import bev_overlaps, matched_pairs
from heal.detection.rotated_iou import rotated_iou

RIGHT_IOU = 0.7  # the least overlap of footprints of a detection that is right
NEAR_IOU = 0.1  # the least overlap of a detection that means an object
HEIGHT_M = 0.5  # the largest error of the middle's or the box's height of a detection that is right
FEW_POINTS = 5  # an object with fewer points can hardly be found

# Entries of a box that are replaced by the object's to see what the overlap would be without this error.
_PARTS = {"place": [X, Y], "size": [L, W], "heading": [YAW]}


@dataclass(frozen=True)
class ErrorKinds:
    """The numbers of detections and objects of each kind; `+` adds those of several scenes.

    Attributes:
        right: detections that found an object, with an overlap of at least `RIGHT_IOU`.
        turned: as right, but the box points backwards, by more than 90 degrees.
        height: as right, but the box is too high, too low, too tall or too flat by more than `HEIGHT_M`.
        place: detections near an object, with too small an overlap, most of all because of their place.
        size: as place, because of their size.
        heading: as place, because of their heading; a box that points backwards has no such error.
        duplicates: detections of an object that a better detection found.
        false: detections that are near no object.
        missed: objects that no detection is near.
        missed_unseen: those of the missed objects that have fewer than `FEW_POINTS` points; 0 where points are not known.
    """

    right: int = 0
    turned: int = 0
    height: int = 0
    place: int = 0
    size: int = 0
    heading: int = 0
    duplicates: int = 0
    false: int = 0
    missed: int = 0
    missed_unseen: int = 0

    def __add__(self, other: ErrorKinds) -> ErrorKinds:
        """Add the numbers of both."""
        return ErrorKinds(**{name: count + getattr(other, name) for name, count in self.counts().items()})

    def counts(self) -> dict[str, int]:
        """Return the numbers by the names of their kinds."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def error_kinds_of(
    detections: Detections, ground_truth: GroundTruth, points: Tensor | None = None, min_score: float = 0.0
) -> ErrorKinds:
    """Sort the detections and the objects of one scene by kind.

    Objects are first given to right detections, then to near ones, in the order of the scores as for average precision. A detection
    of another class than an object's is not near it.

    Args:
        detections: of one scene, in the ego's frame.
        ground_truth: the objects of the same scene, in the ego's frame.
        points: (G,) number of points on each object, of the agent with most; None where they are not known.
        min_score: detections with a lower score do not count.
    """
    detections = detections.select(detections.scores >= min_score)
    found, true = (corners_to_boxes(part.corners.cpu().double()) for part in (detections, ground_truth))
    iou = bev_overlaps(detections, ground_truth).cpu().numpy()
    rows, columns = matched_pairs(iou, RIGHT_IOU)
    kinds = [_right_kind(found[row], true[column]) for row, column in zip(rows, columns, strict=True)]
    rest, free = np.delete(np.arange(len(found)), rows), np.delete(np.arange(len(true)), columns)
    near, meant = matched_pairs(iou[np.ix_(rest, free)], NEAR_IOU)
    kinds += _near_kinds(found[rest[near]], true[free[meant]])
    others = iou[np.delete(rest, near)]
    kinds += ["duplicates" if (overlaps >= NEAR_IOU).any() else "false" for overlaps in others]
    missed = np.delete(free, meant)
    unseen = 0 if points is None else int((points[torch.from_numpy(missed)] < FEW_POINTS).sum())
    return ErrorKinds(**{name: kinds.count(name) for name in set(kinds)}, missed=len(missed), missed_unseen=unseen)


def _right_kind(found: Tensor, true: Tensor) -> str:
    """Return the kind of a box (7,) that overlaps an object's box (7,) well."""
    if abs(float(limit_period(found[YAW] - true[YAW]))) > math.pi / 2:
        return "turned"
    return "height" if float((found - true)[[Z, H]].abs().max()) > HEIGHT_M else "right"


def _near_kinds(found: Tensor, true: Tensor) -> list[str]:
    """Return for boxes (K, 7) near objects' boxes (K, 7) the error without which each would overlap its object most."""
    mended = found.repeat(len(_PARTS), 1, 1)
    for part, entries in zip(mended, _PARTS.values(), strict=True):
        part[:, entries] = true[:, entries]
    overlaps = rotated_iou(bottom_rectangles(boxes_to_corners(mended.flatten(0, 1))), bottom_rectangles(boxes_to_corners(true)))
    own = overlaps.reshape(len(_PARTS), len(true), len(true)).diagonal(dim1=1, dim2=2)
    return [list(_PARTS)[part] for part in own.argmax(dim=0).tolist()]
