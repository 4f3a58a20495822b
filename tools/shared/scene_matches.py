"""The matches of the runs of an evaluation as a file, scenes.npz beside metrics.json, so that runs can be compared later.

The boxes are kept too if they are wanted, so that they can be scored again; docs/outputs.md describes the file.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from heal.atomic_write import replacing
from heal.errors import UserError
from heal.measures.matches import MATCHES_VERSION, SceneBoxes, SceneMatches

SCENES_NAME = "scenes.npz"
# The arrays that are written only where there are several classes.
_CLASS_ARRAYS = ("class_names", "classes", "truth_classes")
_ARRAYS = tuple(part.name for part in fields(SceneMatches) if part.name not in ("boxes", *_CLASS_ARRAYS))
_BOX_ARRAYS = tuple(part.name for part in fields(SceneBoxes))


def write_scenes(path: Path, runs: Mapping[str, SceneMatches]) -> None:
    """Write the matches of runs, by name, as a whole file."""
    arrays = {f"{i}/{name}": getattr(run, name) for i, run in enumerate(runs.values()) for name in _arrays_of(run)}
    boxes = {i: run.boxes for i, run in enumerate(runs.values()) if run.boxes}
    arrays |= {f"{i}/{name}": getattr(of_run, name) for i, of_run in boxes.items() for name in _BOX_ARRAYS}
    with replacing(path) as temporary:
        np.savez_compressed(temporary, version=np.array(MATCHES_VERSION), runs=np.array(list(runs), np.str_), **arrays)


def read_scenes(folder: Path) -> dict[str, SceneMatches]:
    """Read the matches of the runs of an earlier evaluation from its folder; UserError if it has none."""
    path = folder / SCENES_NAME
    try:
        with np.load(path, allow_pickle=False) as file:
            if "version" not in file or int(file["version"]) != MATCHES_VERSION:
                raise UserError(f"{path}: written by another version of this software; `heal evaluate` writes the file again")
            return {name: _read_run(file, i) for i, name in enumerate(file["runs"].tolist())}
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; expected the folder of an earlier `heal evaluate`") from error
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not readable as matches ({error}); `heal evaluate` writes the file again") from error


def _read_run(file: Mapping[str, npt.NDArray[Any]], i: int) -> SceneMatches:
    """Read the run with a number; KeyError if the file lacks a part of it."""
    boxes = SceneBoxes(*(file[f"{i}/{part}"] for part in _BOX_ARRAYS)) if f"{i}/{_BOX_ARRAYS[0]}" in file else None
    classed = _CLASS_ARRAYS if f"{i}/{_CLASS_ARRAYS[0]}" in file else ()
    return SceneMatches(**{part: file[f"{i}/{part}"] for part in (*_ARRAYS, *classed)}, boxes=boxes)


def _arrays_of(run: SceneMatches) -> tuple[str, ...]:
    return (*_ARRAYS, *_CLASS_ARRAYS) if len(run.class_names) > 1 else _ARRAYS
