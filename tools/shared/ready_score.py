"""AP at the instant at which results are ready: a result is of no use before, and meanwhile the ego and all others drive on.

A result of a tick is ready some time after its tick (`TickResult.wait_ms`). Its boxes, where they were found in the world, are then
moved into the frame of the ego at that instant, and are compared with the ground truth of that instant around the ego. The boxes
themselves do not move, because the detector finds no velocities.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from heal.agents.records import TickResult
from heal.agents.truth import TruthRule
from heal.detection.boxes import corners_within_range, transform_corners
from heal.detection.metrics import IOU_THRESHOLDS, ApAccumulator, ApResult, FrameMatch, match_frame
from heal.se3 import relative_SE3
from heal.types import Float64, ObjectLabels, recording_of

SAME_INSTANT_NS = 10_000_000
"""A tick that is at most this far from an instant stands for it: the steps of a sensor at 10 Hz differ by some milliseconds."""

MAX_GAP_NS = 1_000_000_000
"""The truth is not interpolated between ticks that are further apart."""

MAX_SPEED_M_S = 70.0
"""Objects of one id that would have to be faster are two vehicles: the data set numbers the objects of every tick anew."""


@dataclass(frozen=True)
class _Instant:
    """The truth at one instant: the labelled objects in the world, and the pose (4, 4) of the ego."""

    objects: ObjectLabels
    world_SE3_ego: Float64


class ReadyScore:
    """Scores results when they are ready; accumulators of several recordings can be merged.

    The truth of a later instant is known only when a later tick is added. So the last results of a recording are not scored, and
    neither are results between ticks of different egos, or more than `MAX_GAP_NS` apart.
    """

    def __init__(self, rule: TruthRule) -> None:
        """Start without any tick."""
        self.ap = ApAccumulator(IOU_THRESHOLDS)
        self._rule = rule
        self._last: TickResult | None = None
        self._waiting: list[TickResult] = []

    def add(self, result: TickResult) -> None:
        """Add a tick, and score all earlier results that are ready by its instant."""
        before, self._last = self._last, result
        if before is None or not _follows(result, before):
            self._waiting = []
        due = [waiting for waiting in self._waiting if waiting.ready_ns <= result.timestamp_ns + SAME_INSTANT_NS]
        self._waiting = [waiting for waiting in self._waiting if waiting.ready_ns > result.timestamp_ns + SAME_INSTANT_NS]
        for waiting in due:
            assert before is not None, "results wait only for the tick after"
            instant = _truth_at(waiting.ready_ns, before, result)
            if instant is not None:
                self.ap.add_match(self._match(waiting, instant))
        if result.wait_ms > 0:
            self._waiting.append(result)
        else:
            self.ap.add_match(result.match)

    def _match(self, result: TickResult, instant: _Instant) -> FrameMatch:
        """Match the boxes of a result with the ground truth of a later instant, both around the ego at that instant."""
        new_SE3_old = torch.from_numpy(relative_SE3(instant.world_SE3_ego, result.world_SE3_ego))
        corners = transform_corners(new_SE3_old, result.detections.corners.double()).float()
        inside = corners_within_range(corners, self._rule.range_m, use_z=False)
        moved = self._rule.select(replace(result.detections, corners=corners).select(inside))
        return match_frame(moved, self._rule.ground_truth(instant.objects, instant.world_SE3_ego), IOU_THRESHOLDS)

    def results(self) -> ApResult:
        """Return AP with its precision-recall curves."""
        return self.ap.results()

    def metrics(self) -> dict[str, Any]:
        """Return the score as an entry of metrics.json."""
        result = self.results()
        return {"ap": {str(threshold): value for threshold, value in result.ap.items()}, "frames": result.frames}


def _follows(result: TickResult, before: TickResult) -> bool:
    """Return whether two ticks are of one recording and one ego, one soon after the other."""
    recording, recording_before = (recording_of(one.scene_id) for one in (result, before))
    same = (recording, result.ego_id) == (recording_before, before.ego_id)
    return same and 0 < result.timestamp_ns - before.timestamp_ns <= MAX_GAP_NS


def _truth_at(instant_ns: int, before: TickResult, after: TickResult) -> _Instant | None:
    """Return the truth at an instant: that of the tick after if it is the same instant, else interpolated between the two ticks.

    Of objects between two ticks those count that both ticks have. None if their ids are not kept from tick to tick.
    """
    if abs(instant_ns - after.timestamp_ns) <= SAME_INSTANT_NS:
        return _Instant(after.objects, after.world_SE3_ego)
    gap_ns = after.timestamp_ns - before.timestamp_ns
    share = (instant_ns - before.timestamp_ns) / gap_ns
    ids, old, new = np.intersect1d(before.objects.ids, after.objects.ids, return_indices=True)
    old_corners, new_corners = before.objects.world_corners[old], after.objects.world_corners[new]
    steps_m = np.linalg.norm((new_corners - old_corners).mean(axis=1), axis=1)
    if (steps_m > MAX_SPEED_M_S * gap_ns / 1e9).any():
        return None
    corners = (1 - share) * old_corners + share * new_corners
    return _Instant(
        ObjectLabels(ids, corners, after.objects.classes[new]), _pose_between(before.world_SE3_ego, after.world_SE3_ego, share)
    )


def _pose_between(world_SE3_old: Float64, world_SE3_new: Float64, share: float) -> Float64:
    """Return the pose at a share of the way between two poses whose rotations differ by less than half a turn."""
    pose = (1 - share) * world_SE3_old + share * world_SE3_new
    # The rotation that is nearest to the mean of two rotations.
    left, _, right = np.linalg.svd(pose[:3, :3])
    pose[:3, :3] = left @ right
    return pose
