"""Detections, boxes with scores, and ground truth, boxes with ids; both in the ego's frame, and both with classes."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from heal.detection.boxes import corners_to_boxes


def _no_classes() -> Tensor:
    return torch.zeros(0, dtype=torch.int64)


@dataclass(frozen=True)
class Detections:
    """Boxes found in one scene, best first.

    Attributes:
        corners: (N, 8, 3) float32, metres in the ego's frame, in the corner order of `heal.box_corners`.
        scores: (N,) float32 in [0, 1], descending.
        classes: (N,) int64, number of each box's class among those of the base. May be left out where there is one class: all
            numbers are then 0.
    """

    corners: Tensor
    scores: Tensor
    classes: Tensor = field(default_factory=_no_classes)

    def __post_init__(self) -> None:
        """Fill in the classes, and check shapes, types and the order of the scores."""
        _require_corners("Detections", self.corners)
        _require_vector("Detections.scores", self.scores, len(self.corners), torch.float32)
        _complete_classes(self)
        if bool((self.scores[1:] > self.scores[:-1]).any()) or bool(self.scores.isnan().any()):
            raise ValueError("Detections.scores: expected numbers in descending order; use Detections.sorted to sort")

    @staticmethod
    def empty(device: torch.device | str = "cpu") -> Detections:
        """Return detections without any box."""
        return Detections(torch.zeros(0, 8, 3, device=device), torch.zeros(0, device=device))

    @staticmethod
    def sorted(corners: Tensor, scores: Tensor, classes: Tensor | None = None) -> Detections:
        """Make detections from corners (N, 8, 3), scores and classes (N,) in any order; boxes of equal score keep their order."""
        order = scores.argsort(descending=True, stable=True)
        return Detections(corners[order].float(), scores[order].float(), _no_classes() if classes is None else classes[order])

    def __len__(self) -> int:
        """Return the number of boxes."""
        return len(self.scores)

    @property
    def boxes(self) -> Tensor:
        """The boxes (N, 7): x, y, z, h, w, l, yaw."""
        return corners_to_boxes(self.corners)

    def select(self, keep: Tensor) -> Detections:
        """Return the boxes that a mask (N,) bool marks, or that a list of ascending indices names."""
        return Detections(self.corners[keep], self.scores[keep], self.classes[keep])


@dataclass(frozen=True)
class GroundTruth:
    """The labelled objects of one scene.

    Attributes:
        corners: (N, 8, 3) float32, metres in the ego's frame, in the corner order of `heal.box_corners`.
        ids: (N,) int64, unique within the scene.
        classes: (N,) int64, number of each object's class. May be left out where there is one class: all numbers are then 0.
    """

    corners: Tensor
    ids: Tensor
    classes: Tensor = field(default_factory=_no_classes)

    def __post_init__(self) -> None:
        """Fill in the classes, and check shapes and types."""
        _require_corners("GroundTruth", self.corners)
        _require_vector("GroundTruth.ids", self.ids, len(self.corners), torch.int64)
        _complete_classes(self)

    @staticmethod
    def empty(device: torch.device | str = "cpu") -> GroundTruth:
        """Return ground truth without any object."""
        return GroundTruth(torch.zeros(0, 8, 3, device=device), torch.zeros(0, dtype=torch.int64, device=device))

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.ids)

    @property
    def boxes(self) -> Tensor:
        """The boxes (N, 7): x, y, z, h, w, l, yaw."""
        return corners_to_boxes(self.corners)

    def select(self, keep: Tensor) -> GroundTruth:
        """Return the objects that a mask (N,) bool marks, or that a list of indices names."""
        return GroundTruth(self.corners[keep], self.ids[keep], self.classes[keep])


def _complete_classes(boxes: Detections | GroundTruth) -> None:
    """Give boxes without classes the class 0, and check the classes of others."""
    if not len(boxes.classes):
        zeros = torch.zeros(len(boxes.corners), dtype=torch.int64, device=boxes.corners.device)
        object.__setattr__(boxes, "classes", zeros)
    _require_vector(f"{type(boxes).__name__}.classes", boxes.classes, len(boxes.corners), torch.int64)


def _require_corners(owner: str, corners: Tensor) -> None:
    if corners.ndim != 3 or corners.shape[1:] != (8, 3) or corners.dtype != torch.float32:
        raise ValueError(f"{owner}.corners: expected float32 of shape (N, 8, 3), got {corners.dtype} {tuple(corners.shape)}")


def _require_vector(name: str, vector: Tensor, length: int, dtype: torch.dtype) -> None:
    if vector.shape != (length,) or vector.dtype != dtype:
        raise ValueError(f"{name}: expected {dtype} of shape ({length},), got {vector.dtype} {tuple(vector.shape)}")
