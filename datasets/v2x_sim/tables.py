"""Read nuScenes-style tables: JSON files, each a list of records with a token, in pieces that fit into little memory.

A table of sensor data has a record for every image and sweep and takes hundreds of megabytes; as Python objects it would take
gigabytes. The records are read a few thousand at a time, so whoever reads them keeps only the numbers that are needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from heal.datasets.dataset import DatasetError
from heal.datasets.files import errors_naming

TABLES = ("scene", "sample", "sample_data", "ego_pose", "calibrated_sensor", "sensor", "sample_annotation", "instance", "category")
PIECE_BYTES = 1 << 21
MAX_RECORD_BYTES = 1 << 24
BETWEEN = b", \t\r\n"  # bytes between two records
MINI = "-mini"  # ending of the folder of a small release


def tables_folder(root: Path) -> Path | None:
    """Return the folder with the tables: `root` or a folder in it, such as "v2.0"; None if there is none.

    Where several folders hold tables, the whole release counts before a small one (`-mini`), then the last in the order of names.
    """
    if not root.is_dir():
        return None
    found = [path for path in (root, *sorted(root.iterdir())) if _holds_tables(path)]
    return max(found, key=lambda path: (not path.name.endswith(MINI), path.name), default=None)


def table_path(folder: Path, table: str) -> Path:
    """Return the file of a table."""
    return folder / f"{table}.json"


def _holds_tables(folder: Path) -> bool:
    return all(table_path(folder, table).is_file() for table in ("sample_data", "ego_pose", "calibrated_sensor"))


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """Read the records of a table one after another.

    Raises:
        DatasetError: the file is missing, not valid JSON, or no list of records.
    """
    with errors_naming(path), path.open("rb") as file:
        begin = file.read(PIECE_BYTES).lstrip()
        if not begin.startswith(b"["):
            raise DatasetError(path, f"expected a list of records, got {begin[:20].decode(errors='replace')!r}")
        for piece in _pieces(path, file, begin[1:]):
            yield from piece


def _pieces(path: Path, file: BinaryIO, begin: bytes) -> Iterator[list[dict[str, Any]]]:
    """Yield lists of whole records; `begin` is what has been read after the opening bracket."""
    rest, more = begin, True
    while more:
        # A brace may also end an inner object or stand in a text; then the cut is not valid JSON, and more bytes are needed.
        rest = rest.lstrip(BETWEEN)
        cut = rest.rfind(b"}") + 1
        records = _parsed(rest[:cut])
        if records is not None:
            yield _checked(path, records)
            rest = rest[cut:]
        if len(rest) > MAX_RECORD_BYTES:
            break
        read = file.read(PIECE_BYTES)
        more, rest = bool(read), rest + read
    if rest.strip(BETWEEN) != b"]":
        raise DatasetError(
            path, f"not valid JSON, or cut off: the list of records does not end, {rest[:40].decode(errors='replace')!r}"
        )


def _parsed(text: bytes) -> list[Any] | None:
    """Return the records in a part of a list; None if the part is not valid JSON."""
    try:
        records: list[Any] = json.loads(b"[" + text + b"]")
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    return records


def _checked(path: Path, records: list[Any]) -> list[dict[str, Any]]:
    other = next((record for record in records if not isinstance(record, dict)), None)
    if other is not None:
        raise DatasetError(path, f"expected a list of records, each a mapping, got {type(other).__name__} in it")
    return records
