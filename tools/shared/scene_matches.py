"""The matches of a run scene by scene, kept as scenes.npz beside metrics.json, so that runs can be compared later."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from heal.atomic_write import replacing
from heal.detection.metrics import IOU_THRESHOLDS, FrameMatch
from heal.errors import UserError
from heal.types import BoolMask, Float32

SCENES_NAME = "scenes.npz"
_ARRAYS = ("scene_ids", "scores", "true_positive", "detections", "objects")


@dataclass(frozen=True)
class SceneMatches:
    """The matches of S scenes with K detections in all, scene after scene, at the T thresholds `IOU_THRESHOLDS`.

    Attributes:
        scene_ids: (S,) names of the scenes.
        scores: (K,) float32.
        true_positive: (T, K) bool, whether a detection found an object.
        detections: (S,) number of detections of each scene.
        objects: (S,) number of objects of each scene.
    """

    scene_ids: npt.NDArray[np.str_]
    scores: Float32
    true_positive: BoolMask
    detections: npt.NDArray[np.int64]
    objects: npt.NDArray[np.int64]

    @staticmethod
    def of(scene_ids: Sequence[str], frames: Sequence[FrameMatch]) -> SceneMatches:
        """Join the matches of scenes, one frame for each scene."""
        flags = [np.zeros((len(IOU_THRESHOLDS), 0), np.bool_), *(frame.true_positive for frame in frames)]
        return SceneMatches(
            np.array(scene_ids, np.str_),
            np.concatenate([np.zeros(0, np.float32), *(frame.scores for frame in frames)]),
            np.concatenate(flags, axis=1),
            np.array([len(frame.scores) for frame in frames], np.int64),
            np.array([frame.found.shape[1] for frame in frames], np.int64),
        )

    @property
    def groups(self) -> npt.NDArray[np.str_]:
        """The group (S,) of each scene: its town, scenario or recording, which stands before the last `/` of its name."""
        return np.array([name.rpartition("/")[0] for name in self.scene_ids.tolist()], np.str_)


def write_scenes(path: Path, runs: Mapping[str, SceneMatches]) -> None:
    """Write the matches of runs, by name, as a whole file."""
    arrays = {f"{i}/{name}": getattr(run, name) for i, run in enumerate(runs.values()) for name in _ARRAYS}
    with replacing(path) as temporary:
        np.savez_compressed(temporary, runs=np.array(list(runs), np.str_), **arrays)


def read_scenes(folder: Path) -> dict[str, SceneMatches]:
    """Read the matches of the runs of an earlier evaluation from its folder; UserError if it has none."""
    path = folder / SCENES_NAME
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: SceneMatches(*(file[f"{i}/{part}"] for part in _ARRAYS)) for i, name in enumerate(file["runs"].tolist())}
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; expected the folder of an earlier `heal evaluate`") from error
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not readable as matches ({error}); `heal evaluate` writes the file again") from error
