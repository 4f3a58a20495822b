"""Files of results: the folder is tried before the work, each file is written whole, and a full disk does not end the work."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heal.atomic_write import write_text
from heal.errors import file_system_cause, naming_errors_after


def try_folder(folder: Path) -> None:
    """Make a folder for results and try to write in it, so that a long run does not fail at its end.

    Raises:
        OSError: naming the folder, if nothing can be written there.
    """
    with naming_errors_after(folder, overrule=True):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
            file.flush()


def write_json(path: Path, values: Any) -> None:
    """Write plain values as JSON, whole; OSError names `path`."""
    write_text(path, json.dumps(values, indent=2) + "\n")


class WriteErrors:
    """Keeps the errors of files that cannot be written, so that the other results are still computed, printed and written."""

    def __init__(self) -> None:
        """Start without an error."""
        self._errors: list[OSError] = []

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep an error of the file system that the block raises, instead of raising it."""
        try:
            yield
        except OSError as error:
            if file_system_cause(error) is None:
                raise
            self._errors.append(error)

    def __str__(self) -> str:
        """Return the path and the cause of every kept error; "" if there is none."""
        return "; ".join(file_system_cause(error) or "" for error in self._errors)

    def raise_first(self) -> None:
        """Raise the first kept error, if there is one; call this after everything has been printed and written."""
        if self._errors:
            raise self._errors[0]
