"""The error of headings: average precision compares footprints alone, so it does not notice a box that points backwards."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from heal.box_corners import YAW
from heal.detection.boxes import corners_to_boxes, limit_period
from heal.detection.detections import Detections, GroundTruth
from heal.detection.metrics import bev_overlaps, matched_pairs


@dataclass(frozen=True)
class HeadingError:
    """The mean absolute heading error of detections that found an object; `+` adds the sums of several frames.

    Attributes:
        sum_deg: sum of the absolute errors, each in [0, 180] degrees.
        matched: number of detections that found an object.
    """

    sum_deg: float = 0.0
    matched: int = 0

    def __add__(self, other: HeadingError) -> HeadingError:
        """Add the sums of both."""
        return HeadingError(self.sum_deg + other.sum_deg, self.matched + other.matched)

    @property
    def mean_deg(self) -> float | None:
        """The mean over all matched detections; None without any."""
        return self.sum_deg / self.matched if self.matched else None


def heading_error_of(detections: Detections, ground_truth: GroundTruth, iou_threshold: float) -> HeadingError:
    """Compute the heading error of one frame, over the full circle: a box that points backwards is wrong by 180 degrees.

    Args:
        detections: of one frame, in the ego's frame.
        ground_truth: the objects of the same frame, in the ego's frame.
        iou_threshold: the least overlap that finds an object; the matching is that of average precision.
    """
    iou = bev_overlaps(detections, ground_truth).cpu().numpy()
    rows, columns = (torch.from_numpy(indices) for indices in matched_pairs(iou, iou_threshold))
    found, true = (corners_to_boxes(part.corners.cpu().double())[:, YAW] for part in (detections, ground_truth))
    errors = limit_period(found[rows] - true[columns]).abs()
    return HeadingError(float(errors.rad2deg().sum()), len(errors))
