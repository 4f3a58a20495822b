"""Look through the labels of a split when it is opened, to say which files have none and which listed objects do not count.

Parsing YAML takes a hundred times as long as reading it. A file whose text shows that it has labels, and the types of all of its
objects, each with a positive size, is not parsed here; every other file is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from heal.datasets.dataset import DatasetError
from heal.datasets.labels import BLUEPRINT_KEY, TYPE_KEYS, class_of_name, counted_text
from heal.datasets.opv2v.metadata import Parse, metadata_path, parse_metadata, read_metadata
from heal.detection.classes import VEHICLE, VEHICLES, Classes

_POSITIVE = rb"(?=[\d.]*[1-9])\d+(?:\.\d*)?"
_LABELS = re.compile(rb"^vehicles:(?: \{\}| *\n +\S)", re.MULTILINE)
_EXTENT = re.compile(rb"extent:(?: &\w+)?(?:\n +- " + _POSITIVE + rb"(?=\s)){3}|extent: \*\w")
_TYPE = re.compile(rb"(?:" + "|".join((*TYPE_KEYS, BLUEPRINT_KEY)).encode() + rb")['\"]? *:(.*)")

_PLAIN_NAME = re.compile(r"(?!(?i:null|true|false|yes|no|on|off)$)[A-Za-z]{1,40}")  # the words mean no text in YAML


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


def check_labels(stems: Iterable[Path], parse: Parse = parse_metadata, classes: Classes = VEHICLES) -> LabelCheck:
    """Check the metadata `stem`.yaml or .json of every frame, in files that `parse` converts, for objects of some classes."""
    check = LabelCheck()
    for stem in stems:
        path = metadata_path(stem)
        try:
            shown = _others_shown(path.read_bytes(), classes) if path.suffix == ".yaml" else None
            if shown is not None:
                check.left_out.update(shown)
                continue
            metadata = read_metadata(stem, parse, classes)
        except (DatasetError, OSError):
            continue  # its frame names a file that cannot be read
        check.left_out.update(metadata.left_out)
        if not metadata.labelled:
            check.unlabelled.add(path)
    return check


def _others_shown(text: bytes, classes: Classes) -> Counter[str] | None:
    """Return the number of objects of no class, by type; None if the text of a metadata file does not surely tell it.

    It does if it is written as `yaml.dump` does, has labels, each with a size, and one type for each. Where cars are wanted,
    objects without a type count, so then it is enough that the text shows no others.
    """
    extents = _EXTENT.findall(text)
    if not _LABELS.search(text) or text.count(b"extent") != len(extents):
        return None
    names = [match.strip().strip(b"'\"").decode("utf-8", "replace") for match in _TYPE.findall(text)]
    others = Counter(name for name in names if class_of_name(name.split(".")[0], classes) is None)
    is_plain = len(names) == len(extents) and all(_PLAIN_NAME.fullmatch(name) for name in others)
    is_told = is_plain or (not others and class_of_name(VEHICLE, classes) is not None)
    return others if is_told else None
