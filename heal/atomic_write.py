"""Write files whole: a reader sees the old content or the new content, never a part of it.

A process that is killed leaves the temporary file that it was writing. The next process that writes into the folder removes it.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
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
    temporary = unfinished(path)
    with naming_errors_after(path, overrule=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_left_over(path.parent)
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
    temporary = unfinished(folder)
    with naming_errors_after(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_left_over(folder.parent)
        try:
            yield temporary
            temporary.replace(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def unfinished(path: Path) -> Path:
    """Return a hidden path beside `path` to write to; its name says which process of which machine writes."""
    return path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}@{os.getpid()}@{platform.node()}.unfinished{path.suffix}")


@lru_cache(maxsize=1024)
def remove_left_over(folder: Path) -> None:
    """Remove the unfinished files and folders of killed processes from a folder; a process looks into each folder once.

    What another machine writes, into a shared file system, stays: only this machine's processes are known to have ended.
    """
    own = re.compile(rf"\..*@(\d+)@{re.escape(platform.node())}\.unfinished(\.\w+)?")
    with suppress(OSError):
        for path in folder.iterdir():
            match = own.fullmatch(path.name)
            if match and not _is_running(int(match[1])):
                path.unlink() if path.is_file() else shutil.rmtree(path, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
