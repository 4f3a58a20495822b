"""What an evaluation keeps of its scenes: which detection found which vehicle, and what is asked of both by any measure.

The average precision of every rule, overlap and subset can be computed from it, for all scenes or for any that are drawn of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from heal.detection.classes import VEHICLE
from heal.detection.detections import Detections, GroundTruth
from heal.detection.metrics import IOU_KINDS, IOU_THRESHOLDS, FrameMatch, IouKind
from heal.detection.visibility import HIDDEN_BELOW, SceneVisibility
from heal.types import BoolMask, Float32, Int64, recording_of

# Changes whenever the arrays of `SceneMatches` change, or mean something else.
MATCHES_VERSION = 1
# An agent sees a vehicle on which it has this many LiDAR points.
SEEN_FROM = HIDDEN_BELOW
UNKNOWN = -1


@dataclass(frozen=True)
class SceneFacts:
    """What subsets ask of a scene with G vehicles, beside their boxes.

    Attributes:
        ego_type: agent type of the ego; "" without an ego.
        ego_sensor: its sensors, "lidar", "camera" or "lidar+camera"; "" if they are not known.
        ego_points: (G,) LiDAR points of the ego on each vehicle; `UNKNOWN` where they are not counted. None if they are nowhere.
        other_points: (G,) the most points of any other agent, likewise.
    """

    ego_type: str = ""
    ego_sensor: str = ""
    ego_points: Int64 | None = None
    other_points: Int64 | None = None

    def select(self, keep: BoolMask) -> SceneFacts:
        """Return the facts of the vehicles that a mask (G,) marks."""
        ego, other = (None if points is None else points[keep] for points in (self.ego_points, self.other_points))
        return SceneFacts(self.ego_type, self.ego_sensor, ego, other)

    @staticmethod
    def of(truth: GroundTruth, visibility: SceneVisibility | None, ego_type: str = "", ego_sensor: str = "") -> SceneFacts:
        """Look up the points on the vehicles of a scene."""
        if visibility is None:
            return SceneFacts(ego_type, ego_sensor)
        ids = visibility.ids.tolist()
        tables = [dict(zip(ids, part.tolist(), strict=True)) for part in (visibility.ego_points, visibility.best_other_points)]
        points = [np.array([table.get(number, UNKNOWN) for number in truth.ids.tolist()], np.int64) for table in tables]
        return SceneFacts(ego_type, ego_sensor, *points)


@dataclass(frozen=True)
class SceneMatch:
    """The matches of one scene with D detections and G vehicles.

    Attributes:
        scene_id: name of the scene.
        matches: which detection found which vehicle, by the kind of overlap.
        distances_m: (D,) float32 distance of each detection's middle from the ego, in the plane.
        truth_distances_m: (G,) float32 the same of each vehicle.
        facts: what subsets ask of the scene.
    """

    scene_id: str
    matches: Mapping[IouKind, FrameMatch]
    distances_m: Float32
    truth_distances_m: Float32
    facts: SceneFacts

    @staticmethod
    def of(
        scene_id: str,
        matches: Mapping[IouKind, FrameMatch],
        detections: Detections,
        truth: GroundTruth,
        facts: SceneFacts | None = None,
    ) -> SceneMatch:
        """Join the matches of a scene with the distances of its boxes, which are in the ego's frame."""
        found_m, truth_m = (_distances_m(part.corners) for part in (detections, truth))
        return SceneMatch(scene_id, matches, found_m, truth_m, facts or SceneFacts())


def _distances_m(corners: Tensor) -> Float32:
    middles: Float32 = corners[..., :2].mean(dim=1).norm(dim=1).cpu().numpy()
    return middles


@dataclass(frozen=True)
class SceneBoxes:
    """The boxes of scenes with K detections and G objects in all, scene after scene, in the frame of each scene's ego.

    Attributes:
        corners: (K, 8, 3) float32, metres, of the detections, best first in each scene, in the corner order of `heal.box_corners`.
        truth_corners: (G, 8, 3) float32, the same of the objects.
        truth_ids: (G,) int64, ids of the objects, unique within a scene.
    """

    corners: Float32
    truth_corners: Float32
    truth_ids: Int64

    @staticmethod
    def of(scenes: Sequence[tuple[Detections, GroundTruth]]) -> SceneBoxes:
        """Join the detections and the objects of scenes."""
        none = Detections.empty(), GroundTruth.empty()
        return SceneBoxes(
            torch.cat([found.corners.cpu() for found, _ in (none, *scenes)]).numpy(),
            torch.cat([truth.corners.cpu() for _, truth in (none, *scenes)]).numpy(),
            torch.cat([truth.ids.cpu() for _, truth in (none, *scenes)]).numpy(),
        )


@dataclass(frozen=True)
class SceneMatches:
    """The matches of S scenes with K detections and G vehicles in all, scene after scene, at T thresholds.

    Attributes:
        scene_ids: (S,) names of the scenes.
        detections: (S,) number of detections of each scene.
        objects: (S,) number of vehicles of each scene.
        ego_types: (S,) agent type of each ego; "" without one.
        ego_sensors: (S,) its sensors, as in `SceneFacts`.
        counted: (S,) bool, whether the LiDAR points on the vehicles are counted.
        scores: (K,) float32.
        found_bev: (T, K) int32 index of the vehicle in the scene that a detection found; -1 if it found none.
        found_3d: (T, K) int32 the same by the overlap in space.
        distances_m: (K,) float32 distance of each detection from the ego.
        truth_distances_m: (G,) float32 distance of each vehicle from the ego.
        ego_points: (G,) int64 LiDAR points of the ego on each vehicle, or `UNKNOWN`.
        other_points: (G,) int64 the most points of any other agent, or `UNKNOWN`.
        thresholds: (T,) float64 the least overlaps that find a vehicle.
        boxes: the boxes of the scenes, if they are kept.
        class_names: (C,) names of the classes, by their numbers.
        classes: (K,) int64 class of each detection. May be left out, as the next one, where there is one class.
        truth_classes: (G,) int64 class of each vehicle or other object.
    """

    scene_ids: npt.NDArray[np.str_]
    detections: Int64
    objects: Int64
    ego_types: npt.NDArray[np.str_]
    ego_sensors: npt.NDArray[np.str_]
    counted: BoolMask
    scores: Float32
    found_bev: npt.NDArray[np.int32]
    found_3d: npt.NDArray[np.int32]
    distances_m: Float32
    truth_distances_m: Float32
    ego_points: Int64
    other_points: Int64
    thresholds: npt.NDArray[np.float64]
    boxes: SceneBoxes | None = None
    class_names: npt.NDArray[np.str_] = field(default_factory=lambda: np.array([VEHICLE], np.str_))
    classes: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    truth_classes: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        """Fill in the classes."""
        for name, like in (("classes", self.scores), ("truth_classes", self.truth_distances_m)):
            if not len(getattr(self, name)):
                object.__setattr__(self, name, np.zeros(len(like), np.int64))

    @staticmethod
    def of(
        scenes: Sequence[SceneMatch],
        boxes: Sequence[tuple[Detections, GroundTruth]] = (),
        thresholds: Sequence[float] = IOU_THRESHOLDS,
        class_names: Sequence[str] = (VEHICLE,),
    ) -> SceneMatches:
        """Join the matches of scenes at these thresholds, and their boxes, if there are any; classes have these names."""
        facts, counts = [scene.facts for scene in scenes], [scene.matches["bev"].objects for scene in scenes]
        none = np.zeros((len(thresholds), 0), np.int32)
        found = {
            kind: np.concatenate([none, *(scene.matches[kind].found_object for scene in scenes)], axis=1) for kind in IOU_KINDS
        }
        return SceneMatches(
            scene_ids=np.array([scene.scene_id for scene in scenes], np.str_),
            detections=np.array([len(scene.distances_m) for scene in scenes], np.int64),
            objects=np.array(counts, np.int64),
            ego_types=np.array([fact.ego_type for fact in facts], np.str_),
            ego_sensors=np.array([fact.ego_sensor for fact in facts], np.str_),
            counted=np.array([fact.ego_points is not None for fact in facts], np.bool_),
            scores=_joined(np.float32, [scene.matches["bev"].scores for scene in scenes]),
            found_bev=found["bev"],
            found_3d=found["3d"],
            distances_m=_joined(np.float32, [scene.distances_m for scene in scenes]),
            truth_distances_m=_joined(np.float32, [scene.truth_distances_m for scene in scenes]),
            ego_points=_joined(np.int64, [_or_unknown(fact.ego_points, count) for fact, count in zip(facts, counts, strict=True)]),
            other_points=_joined(
                np.int64, [_or_unknown(fact.other_points, count) for fact, count in zip(facts, counts, strict=True)]
            ),
            thresholds=np.array(thresholds, np.float64),
            boxes=SceneBoxes.of(boxes) if boxes else None,
            class_names=np.array(class_names, np.str_),
            classes=_joined(np.int64, [scene.matches["bev"].classes for scene in scenes]),
            truth_classes=_joined(np.int64, [scene.matches["bev"].object_classes for scene in scenes]),
        )

    @property
    def groups(self) -> npt.NDArray[np.str_]:
        """The group (S,) of each scene: its town, scenario or recording, which stands before the last `/` of its name."""
        return np.array([recording_of(name) for name in self.scene_ids.tolist()], np.str_)

    def at(self, thresholds: Sequence[float]) -> SceneMatches:
        """Return the matches at some of their thresholds, in this order; ValueError for one that they are not at."""
        levels = [self.thresholds.tolist().index(threshold) for threshold in thresholds]
        found_bev, found_3d = self.found_bev[levels], self.found_3d[levels]
        return replace(self, found_bev=found_bev, found_3d=found_3d, thresholds=self.thresholds[levels])

    def found(self, kind: IouKind) -> npt.NDArray[np.int32]:
        """Return the index (T, K) of the vehicle in the scene that a detection found, by a kind of overlap."""
        return {"bev": self.found_bev, "3d": self.found_3d}[kind]

    def scenes(self) -> Iterator[tuple[Detections, GroundTruth, SceneFacts]]:
        """Return the detections, the objects and the facts of each scene; none if no boxes are kept."""
        if self.boxes is None:
            return
        found = _divided(self.detections, self.boxes.corners, self.scores, self.classes)
        objects = _divided(self.objects, self.boxes.truth_corners, self.boxes.truth_ids, self.truth_classes)
        points = _divided(self.objects, self.ego_points, self.other_points)
        egos = zip(self.ego_types.tolist(), self.ego_sensors.tolist(), self.counted.tolist(), strict=True)
        for detections, truth, seen, (name, sensor, counted) in zip(found, objects, points, egos, strict=True):
            facts = SceneFacts(name, sensor, *(seen if counted else ()))
            yield Detections(*map(torch.from_numpy, detections)), GroundTruth(*map(torch.from_numpy, truth)), facts


def _or_unknown(points: Int64 | None, count: int) -> Int64:
    return np.full(count, UNKNOWN, np.int64) if points is None else points


def _joined(kind: type[Any], parts: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return np.concatenate([np.zeros(0, kind), *parts])


def _divided(counts: Int64, *arrays: npt.NDArray[Any]) -> Iterator[tuple[npt.NDArray[Any], ...]]:
    """Divide arrays into parts of these lengths."""
    ends = np.cumsum(counts)
    return zip(*(np.split(array, ends)[:-1] for array in arrays), strict=True)
