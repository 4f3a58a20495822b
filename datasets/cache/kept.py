"""Values that the folder of a cache keeps for as long as the files behind them stay the same."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from heal.datasets.cache.entry_file import Entry, Stamp, read_entry, write_entry

Value = TypeVar("Value")

_NO_VALUE = (ValueError, TypeError, LookupError)


class CacheNotWritten(UserWarning):
    """Warns that a cache cannot be written, so that files are read every time."""


@dataclass(frozen=True)
class EntryCodec(Generic[Value]):
    """Conversion of values of one type to entries and back.

    Attributes:
        name: ending of the entries' file names.
        pack: value to entry.
        unpack: entry to an equal value; ValueError, TypeError or LookupError for an entry that holds none.
    """

    name: str
    pack: Callable[[Value], Entry]
    unpack: Callable[[Entry], Value]

    def kept(self, folder: Path, key: str, stamps: Sequence[Stamp], make: Callable[[], Value]) -> Value:
        """Return the value that is kept under a key; without an entry of these stamps, make the value and write an entry.

        Changed stamps keep the path of the entry, so a cache does not grow with changes. If the folder cannot be written, it warns.

        Args:
            folder: the folder of the cache; it is made if needed.
            key: what the value is of.
            stamps: of the files behind the value, taken before they are read: if one changes meanwhile, the entry is outdated.
            make: reads the value from the files.
        """
        digest = hashlib.blake2b(f"{self.name}\n{key}".encode(), digest_size=16).hexdigest()
        path = folder.absolute() / digest[:2] / f"{digest[2:]}.{self.name}"
        entry = read_entry(path, stamps)
        found = None if entry is None else self._unpacked(entry)
        if found is not None:
            return found
        value = make()
        try:
            write_entry(path, stamps, self.pack(value))
        except OSError as error:
            note = f"{folder}: the cache cannot be written: {error.strerror}; files are read every time"
            warnings.warn(note, CacheNotWritten, stacklevel=2)
        return value

    def _unpacked(self, entry: Entry) -> Value | None:
        """Return the value of an entry; None if the entry holds something else, as one that this program has not written may."""
        try:
            return self.unpack(entry)
        except _NO_VALUE:
            return None


def require_kinds(values: Mapping[str, Any], **kinds: type) -> None:
    """Raise TypeError unless values have exactly these names and kinds."""
    if {name: type(value) for name, value in values.items()} != kinds:
        raise TypeError(f"expected {kinds}, got {values}")
