"""Detections, boxes with scores, and ground truth, boxes with ids; both in the ego's frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from heal.detection.boxes import corners_to_boxes


@dataclass(frozen=True)
class Detections:
    """Boxes found in one scene, best first.

    Attributes:
        corners: (N, 8, 3) float32, metres in the ego's frame, in the corner order of `heal.box_corners`.
        scores: (N,) float32 in [0, 1], descending.
    """

    corners: Tensor
    scores: Tensor

    def __post_init__(self) -> None:
        """Check shapes, types and the order of the scores."""
        _require_corners("Detections", self.corners)
        _require_vector("Detections.scores", self.scores, len(self.corners), torch.float32)
        if bool((self.scores[1:] > self.scores[:-1]).any()) or bool(self.scores.isnan().any()):
            raise ValueError("Detections.scores: expected numbers in descending order; use Detections.sorted to sort")

    @staticmethod
    def empty(device: torch.device | str = "cpu") -> Detections:
        """Return detections without any box."""
        return Detections(torch.zeros(0, 8, 3, device=device), torch.zeros(0, device=device))

    @staticmethod
    def sorted(corners: Tensor, scores: Tensor) -> Detections:
        """Make detections from corners (N, 8, 3) and scores (N,) in any order; boxes of equal score keep their order."""
        order = scores.argsort(descending=True, stable=True)
        return Detections(corners[order].float(), scores[order].float())

    def __len__(self) -> int:
        """Return the number of boxes."""
        return len(self.scores)

    @property
    def boxes(self) -> Tensor:
        """The boxes (N, 7): x, y, z, h, w, l, yaw."""
        return corners_to_boxes(self.corners)

    def select(self, keep: Tensor) -> Detections:
        """Return the boxes that a mask (N,) bool marks, or that a list of ascending indices names."""
        return Detections(self.corners[keep], self.scores[keep])


@dataclass(frozen=True)
class GroundTruth:
    """The labelled objects of one scene.

    Attributes:
        corners: (N, 8, 3) float32, metres in the ego's frame, in the corner order of `heal.box_corners`.
        ids: (N,) int64, unique within the scene.
    """

    corners: Tensor
    ids: Tensor

    def __post_init__(self) -> None:
        """Check shapes and types."""
        _require_corners("GroundTruth", self.corners)
        _require_vector("GroundTruth.ids", self.ids, len(self.corners), torch.int64)

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
        return GroundTruth(self.corners[keep], self.ids[keep])


def _require_corners(owner: str, corners: Tensor) -> None:
    if corners.ndim != 3 or corners.shape[1:] != (8, 3) or corners.dtype != torch.float32:
        raise ValueError(f"{owner}.corners: expected float32 of shape (N, 8, 3), got {corners.dtype} {tuple(corners.shape)}")


def _require_vector(name: str, vector: Tensor, length: int, dtype: torch.dtype) -> None:
    if vector.shape != (length,) or vector.dtype != dtype:
        raise ValueError(f"{name}: expected {dtype} of shape ({length},), got {vector.dtype} {tuple(vector.shape)}")
