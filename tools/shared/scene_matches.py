"""The matches of a run scene by scene, kept as scenes.npz beside metrics.json, so that runs can be compared later.

The boxes are kept too if they are wanted, so that they can be scored again; docs/outputs.md describes the file.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from heal.atomic_write import replacing
from heal.detection.detections import Detections, GroundTruth
from heal.detection.metrics import IOU_THRESHOLDS, FrameMatch
from heal.errors import UserError
from heal.types import BoolMask, Float32

SCENES_NAME = "scenes.npz"
_ARRAYS = ("scene_ids", "scores", "true_positive", "detections", "objects")
_BOX_ARRAYS = ("corners", "truth_corners", "truth_ids")


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
    truth_ids: npt.NDArray[np.int64]

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
    """The matches of S scenes with K detections in all, scene after scene, at the T thresholds `IOU_THRESHOLDS`.

    Attributes:
        scene_ids: (S,) names of the scenes.
        scores: (K,) float32.
        true_positive: (T, K) bool, whether a detection found an object.
        detections: (S,) number of detections of each scene.
        objects: (S,) number of objects of each scene.
        boxes: the boxes of the scenes, if they are kept.
    """

    scene_ids: npt.NDArray[np.str_]
    scores: Float32
    true_positive: BoolMask
    detections: npt.NDArray[np.int64]
    objects: npt.NDArray[np.int64]
    boxes: SceneBoxes | None = None

    @staticmethod
    def of(
        scene_ids: Sequence[str], frames: Sequence[FrameMatch], boxes: Sequence[tuple[Detections, GroundTruth]] = ()
    ) -> SceneMatches:
        """Join the matches of scenes, one frame for each scene, and their boxes, if there are any."""
        flags = [np.zeros((len(IOU_THRESHOLDS), 0), np.bool_), *(frame.true_positive for frame in frames)]
        return SceneMatches(
            np.array(scene_ids, np.str_),
            np.concatenate([np.zeros(0, np.float32), *(frame.scores for frame in frames)]),
            np.concatenate(flags, axis=1),
            np.array([len(frame.scores) for frame in frames], np.int64),
            np.array([frame.found.shape[1] for frame in frames], np.int64),
            SceneBoxes.of(boxes) if boxes else None,
        )

    @property
    def groups(self) -> npt.NDArray[np.str_]:
        """The group (S,) of each scene: its town, scenario or recording, which stands before the last `/` of its name."""
        return np.array([name.rpartition("/")[0] for name in self.scene_ids.tolist()], np.str_)

    def scenes(self) -> Iterator[tuple[Detections, GroundTruth]]:
        """Return the detections and the objects of each scene; none if no boxes are kept."""
        if self.boxes is None:
            return
        found = _divided(self.detections, self.boxes.corners, self.scores)
        objects = _divided(self.objects, self.boxes.truth_corners, self.boxes.truth_ids)
        for detections, truth in zip(found, objects, strict=True):
            yield Detections(*map(torch.from_numpy, detections)), GroundTruth(*map(torch.from_numpy, truth))


def _divided(counts: npt.NDArray[np.int64], *arrays: npt.NDArray[Any]) -> Iterator[tuple[npt.NDArray[Any], ...]]:
    """Divide arrays into parts of these lengths."""
    ends = np.cumsum(counts)
    return zip(*(np.split(array, ends)[:-1] for array in arrays), strict=True)


def write_scenes(path: Path, runs: Mapping[str, SceneMatches]) -> None:
    """Write the matches of runs, by name, as a whole file."""
    arrays = {f"{i}/{name}": getattr(run, name) for i, run in enumerate(runs.values()) for name in _ARRAYS}
    boxes = {i: run.boxes for i, run in enumerate(runs.values()) if run.boxes}
    arrays |= {f"{i}/{name}": getattr(of_run, name) for i, of_run in boxes.items() for name in _BOX_ARRAYS}
    with replacing(path) as temporary:
        np.savez_compressed(temporary, runs=np.array(list(runs), np.str_), **arrays)


def read_scenes(folder: Path) -> dict[str, SceneMatches]:
    """Read the matches of the runs of an earlier evaluation from its folder; UserError if it has none."""
    path = folder / SCENES_NAME
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: _read_run(file, i) for i, name in enumerate(file["runs"].tolist())}
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; expected the folder of an earlier `heal evaluate`") from error
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not readable as matches ({error}); `heal evaluate` writes the file again") from error


def _read_run(file: Mapping[str, npt.NDArray[Any]], i: int) -> SceneMatches:
    """Read the run with a number; KeyError if the file lacks a part of it."""
    boxes = SceneBoxes(*(file[f"{i}/{part}"] for part in _BOX_ARRAYS)) if f"{i}/{_BOX_ARRAYS[0]}" in file else None
    scene_ids, scores, true_positive, detections, objects = (file[f"{i}/{part}"] for part in _ARRAYS)
    return SceneMatches(scene_ids, scores, true_positive, detections, objects, boxes)
