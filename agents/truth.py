"""What a result is compared with: the labels as ground truth in the ego's frame, and the detections that count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heal.agents.options import RunOptions
from heal.detection.boxes import boxes_around_origin
from heal.detection.detections import Detections, GroundTruth
from heal.detection.ground_truth import objects_in_frame
from heal.detection.label_filters import without_vehicle_at
from heal.types import Float64, ObjectLabels


@dataclass(frozen=True)
class TruthRule:
    """The rule by which objects and detections count. This side alone may know true poses.

    Attributes:
        range_m: x, y, z of the lower and of the upper corner of the evaluated range, metres in the ego's frame.
        include_ego: see `RunOptions.include_ego`.
        use_z: see `RunOptions.use_z`.
    """

    range_m: tuple[float, ...]
    include_ego: bool = False
    use_z: bool = True

    @staticmethod
    def of(options: RunOptions, range_m: Sequence[float]) -> TruthRule:
        """Return the rule of a run on a grid with a range."""
        return TruthRule(tuple(range_m), options.include_ego, options.use_z)

    def select(self, detections: Detections) -> Detections:
        """Return the detections in the ego's frame that count: without the ego's vehicle unless it is included."""
        return detections if self.include_ego else detections.select(~boxes_around_origin(detections.boxes))

    def ground_truth(self, objects: ObjectLabels, world_SE3_ego: Float64) -> GroundTruth:
        """Return the objects in the range around the ego's true pose, without the ego's vehicle unless it is included."""
        objects = objects if self.include_ego else without_vehicle_at(objects, world_SE3_ego)
        return objects_in_frame(objects, world_SE3_ego, self.range_m, self.use_z)
