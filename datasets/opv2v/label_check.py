"""Look through the labels of a split when it is opened, to say which files have none and which listed objects do not count.

Parsing YAML takes a hundred times as long as reading it. A file whose text shows that it has labels, with vehicles of positive size
only, is not parsed here; every other file is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from heal.datasets.dataset import DatasetError
from heal.datasets.labels import BLUEPRINT_KEY, TYPE_KEYS, counted_text, is_vehicle_name
from heal.datasets.opv2v.metadata import FrameMetadata, metadata_path, read_metadata

_POSITIVE = rb"(?=[\d.]*[1-9])\d+(?:\.\d*)?"
_LABELS = re.compile(rb"^vehicles:(?: \{\}| *\n +\S)", re.MULTILINE)
_EXTENT = re.compile(rb"extent:(?: &\w+)?(?:\n +- " + _POSITIVE + rb"(?=\s)){3}|extent: \*\w")
_TYPE = re.compile(rb"(?:" + "|".join((*TYPE_KEYS, BLUEPRINT_KEY)).encode() + rb")['\"]? *:(.*)")


@dataclass
class LabelCheck:
    """The findings in the labels of a split.

    Attributes:
        unlabelled: the metadata files without labels.
        left_out: number of listed objects that do not count, by their type or as `labels.WITHOUT_SIZE`.
    """

    unlabelled: set[Path] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def notes(self) -> tuple[str, ...]:
        """A line about the objects that do not count, if there are any."""
        return (f"labels left out: {counted_text(self.left_out)}",) if self.left_out else ()


def check_labels(stems: Iterable[Path]) -> LabelCheck:
    """Check the metadata `stem`.yaml or .json of every frame."""
    check = LabelCheck()
    for stem in stems:
        metadata = _doubtful(stem)
        if metadata is not None:
            check.left_out.update(metadata.left_out)
            if not metadata.labelled:
                check.unlabelled.add(metadata_path(stem))
    return check


def _doubtful(stem: Path) -> FrameMetadata | None:
    """Return metadata whose text does not show that all is well; also None for a file that cannot be read: its frame names it."""
    path = metadata_path(stem)
    try:
        if path.suffix == ".yaml" and _shows_vehicles_only(path.read_bytes()):
            return None
        return read_metadata(stem)
    except (DatasetError, OSError):
        return None


def _shows_vehicles_only(text: bytes) -> bool:
    """Whether the text of a metadata file, written as `yaml.dump` does, surely has labels, of vehicles with a size only."""
    if not _LABELS.search(text) or text.count(b"extent") != len(_EXTENT.findall(text)):
        return False
    names = {match.strip().strip(b"'\"").decode("utf-8", "replace") for match in _TYPE.findall(text)}
    return all(is_vehicle_name(name.split(".")[0]) for name in names)
