"""Write files whole: a reader sees the old content or the new content, never a part of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from heal.errors import naming_errors_after


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file beside `path` to write to, and move it into the place of `path` if nothing goes wrong.

    If an error is raised inside the context, such as that of a full disk, the temporary file is removed and `path` stays as it was.
    An OSError of the file system names `path`. Missing folders above `path` are made.

    Yields:
        The temporary file, with the suffix of `path`; it does not exist yet.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.unfinished{path.suffix}")
    with naming_errors_after(path, overrule=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def folder_made_whole(folder: Path) -> Iterator[Path]:
    """Give a temporary path beside `folder` for a folder to make, and move it to `folder` if nothing goes wrong.

    `folder` does not exist, or is empty. The temporary folder is hidden, and is removed if an error is raised.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.unfinished")
    with naming_errors_after(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
