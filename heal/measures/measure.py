"""The measures of an evaluation: average precision by a rule, an overlap and a threshold, over all vehicles or a part of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from heal.detection.metrics import IouKind, Rule

SeenBy = Literal["ego", "others"]
_SEEN_TEXTS = {"ego": "seen by the ego", "others": "seen only by others"}


@dataclass(frozen=True)
class Subset:
    """The vehicles and the scenes that a measure counts; every condition that is given must hold.

    A vehicle outside of the subset is ignored, as on KITTI: it need not be found, and a detection that finds it is neither right
    nor wrong. A detection that finds no vehicle counts by its own distance; by visibility it counts against every subset.

    Attributes:
        distance_m: from and up to which distance of its middle from the ego, in the plane; None for any. The end may be infinite.
        seen_by: "ego" for vehicles with at least `heal.measures.matches.SEEN_FROM` LiDAR points of the ego; "others" for those that
            have fewer, while another agent has as many. Only scenes in which the points are counted have such vehicles.
        ego_type: only scenes whose ego is of this agent type.
        ego_sensor: only scenes whose ego has these sensors: "lidar", "camera" or "lidar+camera".
        object_class: only objects and detections of the class with this name; None for all classes. Where there are several,
            average precision is then the mean over those that have an object of the subset.
    """

    distance_m: tuple[float, float] | None = None
    seen_by: SeenBy | None = None
    ego_type: str | None = None
    ego_sensor: str | None = None
    object_class: str | None = None

    def __post_init__(self) -> None:
        """Check the distances."""
        if self.distance_m is not None and not 0 <= self.distance_m[0] < self.distance_m[1]:
            raise ValueError(f"Subset.distance_m: expected two distances, the lesser first, got {self.distance_m}")

    def __str__(self) -> str:
        """Return the subset in words; "" for everything."""
        parts = [
            self.object_class or "",
            "" if self.distance_m is None else distance_text(self.distance_m),
            "" if self.seen_by is None else _SEEN_TEXTS[self.seen_by],
            "" if self.ego_type is None else f"ego {self.ego_type}",
            "" if self.ego_sensor is None else f"ego with {self.ego_sensor}",
        ]
        return ", ".join(part for part in parts if part)


EVERYTHING = Subset()


@dataclass(frozen=True)
class Measure:
    """A measure of detections.

    Attributes:
        threshold: the least overlap that finds a vehicle.
        rule: order of the detections, see `heal.detection.metrics.ap_rule`.
        iou: whether boxes overlap in bird's-eye view or in space.
        subset: the vehicles and scenes that count.
    """

    threshold: float = 0.5
    rule: Rule = "global"
    iou: IouKind = "bev"
    subset: Subset = EVERYTHING

    def __str__(self) -> str:
        """Return a short title, such as "AP@0.5, 3d, per_frame, 0-30 m"; what is usual is left out."""
        parts = [f"AP@{self.threshold:g}", "" if self.iou == "bev" else self.iou, "" if self.rule == "global" else self.rule]
        return ", ".join(part for part in (*parts, str(self.subset)) if part)


def distance_text(distance_m: tuple[float, float]) -> str:
    """Return a range of distances in words, such as "30-50 m" or "from 100 m"."""
    low, high = distance_m
    return f"from {low:g} m" if math.isinf(high) else f"{low:g}-{high:g} m"
