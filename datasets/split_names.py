"""The names under which data sets keep the same split, and the collaboration that may follow a name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from heal.datasets.dataset import Collaboration, DatasetError
from heal.errors import UserError

SYNONYMS = (("train", "training"), ("validate", "val", "validation", "valid"), ("test", "testing"))


class NoSplitError(DatasetError):
    """A split that a data set does not have; the message names those that are there."""


def split_and_collaboration(text: str) -> tuple[str, Collaboration | None]:
    """Return the split and the collaboration of a text such as "test" or "test:ic"; UserError for an unknown collaboration."""
    split, colon, named = text.partition(":")
    known: tuple[Collaboration, ...] = get_args(Collaboration)
    collaboration = next((each for each in known if each == named), None)
    if colon and collaboration is None:
        raise UserError(f"split {text!r}: expected one of the collaborations {', '.join(known)} after the colon, got {named!r}")
    return split, collaboration


def names_of(split: str) -> tuple[str, ...]:
    """Return the names that a split may have on disk: its own first, then its synonyms."""
    for names in SYNONYMS:
        if split.lower() in names:
            return (split, *(name for name in names if name != split))
    return (split,)


def find_split(split: str, there: Iterable[str]) -> str | None:
    """Return the name of a split among `there`, in any case; the name itself before a synonym. None if it is not there."""
    existing = sorted(there)
    for name in names_of(split):
        found = [candidate for candidate in existing if candidate == name] or [
            candidate for candidate in existing if candidate.lower() == name.lower()
        ]
        if found:
            return found[0]
    return None


def find_split_in(root: Path, split: str) -> str:
    """Return the name of a split's folder in a data set's folder; NoSplitError, which names what is there, if it is missing."""
    there = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    name = find_split(split, there)
    if name is None:
        raise NoSplitError(root / split, f"no such split; {root} holds {', '.join(there) or 'nothing'}")
    return name
