"""Average precision of the parts of an evaluation: by class, distance, who sees the vehicles, the ego's type and its sensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from heal.detection.metrics import IouKind, Rule
from heal.measures.matches import SceneMatches
from heal.measures.measure import SeenBy, Subset, distance_text
from heal.measures.precision import count_objects, precision_by_threshold

# Where one range of distances ends and the next one begins, metres.
EDGES_M = (30.0, 50.0, 100.0)
_SEERS: tuple[SeenBy, ...] = ("ego", "others")


@dataclass(frozen=True)
class Part:
    """A part of an evaluation.

    Attributes:
        kind: "class" where there are several, "distance", "visibility", "ego_type" or "ego_sensor".
        name: of the part, such as "0-30 m".
        objects: number of its vehicles.
        ap: average precision by threshold, as text.
    """

    kind: str
    name: str
    objects: int
    ap: dict[str, float | None]


def class_subsets(matches: SceneMatches) -> dict[str, Subset]:
    """Return the subset of each class, by its name; nothing where there is one class."""
    names = matches.class_names.tolist()
    return {name: Subset(object_class=name) for name in names} if len(names) > 1 else {}


def subsets_of(matches: SceneMatches, edges_m: Sequence[float] = EDGES_M) -> dict[str, dict[str, Subset]]:
    """Return the subsets of an evaluation that hold a vehicle, by their kind and their name.

    Args:
        matches: of the evaluation.
        edges_m: ascending distances from the ego at which the ranges meet; the first begins at 0, the last never ends.
    """
    ranges = [*pairwise((0.0, *edges_m, math.inf))]
    classes = class_subsets(matches)
    candidates = {
        **({"class": classes} if classes else {}),
        "distance": {distance_text(one): Subset(distance_m=one) for one in ranges},
        "visibility": {str(subset): subset for subset in (Subset(seen_by=seer) for seer in _SEERS)},
        "ego_type": {name: Subset(ego_type=name) for name in sorted({*matches.ego_types.tolist()} - {""})},
        "ego_sensor": {name: Subset(ego_sensor=name) for name in sorted({*matches.ego_sensors.tolist()} - {""})},
    }
    return {
        kind: {name: subset for name, subset in subsets.items() if count_objects(matches, subset)}
        for kind, subsets in candidates.items()
    }


def parts_of(matches: SceneMatches, edges_m: Sequence[float] = EDGES_M, rule: Rule = "global", iou: IouKind = "bev") -> list[Part]:
    """Compute the average precision of every part of an evaluation."""
    return [
        Part(kind, name, count_objects(matches, subset), precision_by_threshold(matches, rule, iou, subset))
        for kind, subsets in subsets_of(matches, edges_m).items()
        for name, subset in subsets.items()
    ]


def breakdown_record(parts: Sequence[Part]) -> dict[str, dict[str, Any]]:
    """Return parts as an entry of metrics.json, by their kind and their name."""
    kinds = dict.fromkeys(part.kind for part in parts)
    return {kind: {part.name: {"objects": part.objects, "ap": part.ap} for part in parts if part.kind == kind} for kind in kinds}
