"""Read the header of a PCD file in every spelling that the Point Cloud Library accepts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

FIELD_TYPES: dict[tuple[str, int], np.dtype[Any]] = {
    **{("F", size): np.dtype(f"<f{size}") for size in (4, 8)},
    **{(kind, size): np.dtype(f"<{kind.lower()}{size}") for kind in "IU" for size in (1, 2, 4, 8)},
}
ENCODINGS = ("ascii", "binary", "binary_compressed")
OLD_KEYS = {"COLUMNS": "FIELDS"}  # of version 0.6 and before
MAX_HEADER_BYTES = 65536  # without comments


@dataclass(frozen=True)
class PcdHeader:
    """The header of a PCD file.

    Attributes:
        fields: names in file order, in lower case.
        types: numpy type of each field.
        counts: values per point of each field, usually 1.
        points: number of points.
        encoding: one of ENCODINGS.
        data_begin: byte at which the points begin.
    """

    fields: tuple[str, ...]
    types: tuple[np.dtype[Any], ...]
    counts: tuple[int, ...]
    points: int
    encoding: str
    data_begin: int

    @property
    def widths(self) -> tuple[int, ...]:
        """Bytes per point of each field."""
        return tuple(kind.itemsize * count for kind, count in zip(self.types, self.counts, strict=True))

    def column(self, name: str) -> int:
        """Return the position of a field; ValueError if it is missing."""
        if name not in self.fields:
            raise ValueError(f"no field {name!r}, the file has {', '.join(self.fields)}")
        return self.fields.index(name)


def parse_header(data: bytes) -> PcdHeader:
    """Read the header at the beginning of a PCD file.

    Keys, field names and types may be in either case. A missing TYPE is F, a missing SIZE 4, a missing COUNT or HEIGHT 1; one of
    WIDTH and POINTS may be missing.

    Raises:
        ValueError: the header is incomplete, contradicts itself, or has an unknown type or encoding.
    """
    values, data_begin = _header_lines(data)
    missing = [key for key in ("FIELDS", "DATA") if key not in values]
    if not {"WIDTH", "POINTS"} & values.keys():
        missing.append("WIDTH")
    if missing:
        raise ValueError(f"not a PCD file: the header has no {', '.join(missing)}")
    fields = tuple(name.lower() for name in values["FIELDS"])
    kinds = [kind.upper() for kind in values.get("TYPE", ["F"] * len(fields))]
    sizes = _whole_numbers(values, "SIZE", ["4"] * len(fields))
    counts = _whole_numbers(values, "COUNT", ["1"] * len(fields))
    if not len(fields) == len(kinds) == len(sizes) == len(counts):
        raise ValueError(f"the header names {len(fields)} fields, but not as many sizes, types and counts")
    if 0 in counts:
        raise ValueError(f"the field {fields[counts.index(0)]!r} has a COUNT of 0, expected at least one value per point")
    types = tuple(_field_type(kind, size) for kind, size in zip(kinds, sizes, strict=True))
    encoding = values["DATA"][0].lower()
    if encoding not in ENCODINGS:
        raise ValueError(f"unknown encoding {encoding!r}, expected one of {', '.join(ENCODINGS)}")
    return PcdHeader(fields, types, tuple(counts), _number_of_points(values), encoding, data_begin)


def _header_lines(data: bytes) -> tuple[dict[str, list[str]], int]:
    """Return the words of each header line by its key, and the byte after the header's last line, DATA."""
    values: dict[str, list[str]] = {}
    begin = read = 0
    while read < MAX_HEADER_BYTES and "DATA" not in values:
        end = data.find(b"\n", begin)
        if end < 0:
            break
        if not data.startswith(b"#", begin):
            read += end + 1 - begin
            key, *words = data[begin:end].decode("ascii", errors="replace").split() or [""]
            if words:
                values[OLD_KEYS.get(key.upper(), key.upper())] = words
        begin = end + 1
    return values, begin


def _whole_numbers(values: dict[str, list[str]], key: str, default: list[str]) -> list[int]:
    """Return the numbers of a header line; ValueError if a word is not a whole number >= 0."""
    words = values.get(key, default)
    if not all(word.isascii() and word.isdigit() for word in words):
        raise ValueError(f"the header's {key} is {' '.join(words)!r}, expected whole numbers")
    return [int(word) for word in words]


def _number_of_points(values: dict[str, list[str]]) -> int:
    """Return POINTS, or WIDTH times HEIGHT; ValueError if they differ."""
    width, points = _whole_numbers(values, "WIDTH", []), _whole_numbers(values, "POINTS", [])
    height = _whole_numbers(values, "HEIGHT", ["1"])
    area = width[0] * height[0] if width else points[0]
    if points and points[0] != area:
        raise ValueError(f"the header contradicts itself: WIDTH {width[0]} times HEIGHT {height[0]} is not POINTS {points[0]}")
    return area


def _field_type(kind: str, size: int) -> np.dtype[Any]:
    found = FIELD_TYPES.get((kind, size))
    if found is None:
        raise ValueError(f"unknown field type {kind}{size}, expected F of 4 or 8 bytes, I or U of 1, 2, 4 or 8")
    return found
