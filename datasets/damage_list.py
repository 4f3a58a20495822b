"""A list of known damage that `heal doctor` writes and `--on-damage` takes: its scenes are left out without reading every file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heal.atomic_write import write_text
from heal.datasets.damage import Reads
from heal.datasets.dataset import Dataset, DatasetError
from heal.datasets.files import errors_naming, read_json
from heal.datasets.notation import as_mapping, as_mappings, as_text, entry_of

FORMAT = "heal doctor, scenes to leave out"


@dataclass(frozen=True)
class KnownDamage:
    """A defect of one scene.

    Attributes:
        reason: the defect.
        files: resolved paths of the files whose users leave the scene out; empty for all who read the scene.
    """

    reason: str
    files: frozenset[Path] = frozenset()


# Split -> id of a scene -> its defects.
DamageList = Mapping[str, Mapping[str, Sequence[KnownDamage]]]


def known_damaged(source: Dataset, scenes: Iterable[int], reads: Reads, known: DamageList) -> dict[int, tuple[str, str]]:
    """Return the scenes that a list leaves out, as `find_damaged` does: index -> id of the scene, and the damage.

    Args:
        source: the data set.
        scenes: indices of scenes.
        reads: the sensor data that a run reads of a scene; defects of other files do not matter.
        known: the list.
    """
    of_split = known.get(source.summary.split, {})
    found: dict[int, tuple[str, str]] = {}
    for index in scenes:
        scene_id = source.listed(index).scene_id
        reasons = [each.reason for each in of_split.get(scene_id, ()) if _concerns(source, index, reads, each)]
        if reasons:
            found[index] = scene_id, f"{reasons[0]}; the scene is left out"
    return found


def _concerns(source: Dataset, index: int, reads: Reads, damage: KnownDamage) -> bool:
    """Whether a run reads one of the files of a defect, or asks for files that the data set cannot name."""
    if not damage.files:
        return True
    try:
        origins = [source.scene_origin(index), *(source.frame_origin(index, *read) for read in reads(source.listed(index)))]
    except DatasetError:
        return True
    needed = (path for origin in origins for path in origin.files)
    return any(path.resolve() in damage.files for path in needed)


def write_damage_list(path: Path, root: Path, known: DamageList) -> None:
    """Write a list; its paths are relative to `root`, the folder of the data set."""
    place = root.resolve()

    def record(damage: KnownDamage) -> dict[str, Any]:
        return {"reason": damage.reason, "files": sorted(os.path.relpath(file, place) for file in damage.files)}

    scenes = {
        split: {scene_id: [record(each) for each in damages] for scene_id, damages in of_split.items()}
        for split, of_split in known.items()
    }
    write_text(path, json.dumps({"format": FORMAT, "data": str(place), "scenes": scenes}, indent=1) + "\n")


def read_damage_list(path: Path, root: Path) -> DamageList:
    """Read a list for a data set in the folder `root`.

    Raises:
        DatasetError: the file is no such list, or was made for a data set in another folder.
    """
    values = read_json(path)
    with errors_naming(path):
        values = as_mapping("the file", values)
        if values.get("format") != FORMAT:
            raise DatasetError(path, "expected a list that `heal doctor` has written; --on-damage takes stop, skip or such a list")
        made_for = as_text("data", entry_of("the file", values, "data"))
        if str(root.resolve()) != made_for:
            raise DatasetError(path, f"expected a list for {root}, got one for {made_for}; run heal doctor {root}")
        splits = as_mapping("scenes", entry_of("the file", values, "scenes"))
        return {
            split: {scene_id: _damages(root, each) for scene_id, each in of_split.items()} for split, of_split in splits.items()
        }


def is_damage_list(path: Path) -> bool:
    """Whether a file is a list that `write_damage_list` has written."""
    try:
        values = read_json(path)
    except DatasetError:
        return False
    return isinstance(values, dict) and values.get("format") == FORMAT


def _damages(root: Path, entries: Any) -> list[KnownDamage]:
    return [
        KnownDamage(str(entry["reason"]), frozenset((root.resolve() / str(file)).resolve() for file in entry["files"]))
        for entry in as_mappings("defect", entries)
    ]
