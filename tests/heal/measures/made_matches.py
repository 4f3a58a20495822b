"""Matches of scenes written by hand: which detection found which of a scene's vehicles, at every threshold alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from heal.detection.metrics import FrameMatch
from heal.measures.matches import SceneFacts, SceneMatch, SceneMatches
from heal.types import BoolMask


def flagged(scores: Sequence[float], hits: BoolMask, objects: int) -> FrameMatch:
    """Return a match in which the detections that `hits` (T, D) marks found the vehicles in turn."""
    found = np.where(hits, hits.cumsum(axis=1) - 1, -1).astype(np.int32)
    return FrameMatch(np.array(scores, np.float32), found, objects)


def in_one_place(scene_id: str, match: FrameMatch) -> SceneMatch:
    """Return a scene whose boxes all lie at the ego, matched alike by both overlaps."""
    places = np.zeros(len(match.scores), np.float32), np.zeros(match.objects, np.float32)
    return SceneMatch(scene_id, {"bev": match, "3d": match}, *places, SceneFacts())


def joined(names: Sequence[str], frames: Sequence[FrameMatch]) -> SceneMatches:
    """Return the matches of scenes with these names."""
    return SceneMatches.of([in_one_place(*scene) for scene in zip(names, frames, strict=True)])
