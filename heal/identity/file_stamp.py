"""Tells whether a file has changed since it was read, without reading it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class FileStamp(NamedTuple):
    """What changes with a file: its place on the disk, which a replaced file has not in common with the old one, time and size."""

    inode: int
    changed_ns: int
    size_bytes: int

    @staticmethod
    def of(path: Path) -> FileStamp | None:
        """Return the stamp of a file; None if there is no such file."""
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        return FileStamp(status.st_ino, status.st_mtime_ns, status.st_size)
