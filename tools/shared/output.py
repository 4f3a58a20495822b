"""Files of results: the folder is tried before the work, each file is written whole, and a full disk does not end the work.

A folder holds one output, and says what made it. A folder with an output is used again only where this is asked for.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from heal.alliance import Alliance
from heal.atomic_write import replacing, write_text
from heal.config import save_config, to_plain
from heal.errors import UserError, file_system_cause, naming_errors_after
from heal.tools.shared.made_by import MADE_BY, RECORD_NAME, AllianceRecord, MadeBy, ScenesRecord, read_made_by

METRICS_NAME, SWEEP_NAME, TICKS_NAME, PROFILE_NAME = "metrics.json", "sweep.json", "ticks.jsonl", "profile.json"
ANALYSIS_NAME, COMPARE_NAME = "analysis.json", "compare.json"
# A folder with one of these files, unless it is empty, holds an output.
_RESULTS = (METRICS_NAME, SWEEP_NAME, TICKS_NAME, PROFILE_NAME, ANALYSIS_NAME, COMPARE_NAME)
# All files of the commands' outputs; nothing else is removed from a folder that is used again.
_TICK = "[0-9]" * 6
_PICTURES = (
    "last_tick.png",
    "precision_recall.png",
    "found_through_others.png",
    "sweep.png",
    "profile.png",
    "similarity.png",
    "projection.png",
    "run.gif",
    "drive.gif",
)
_NUMBERED = (f"scene_{_TICK}.png", f"pictures/tick_{_TICK}.png", "gain_[0-9]*.png", "weights_[0-9]*.png")
_FILES = (*_RESULTS, RECORD_NAME, "scenes.npz", "report.html", "profile.md", "results.csv", "costs.csv", *_PICTURES, *_NUMBERED)


@dataclass(frozen=True)
class Output:
    """The output of a command.

    Attributes:
        folder: the folder of its files.
        made_by: what makes the output.
    """

    folder: Path
    made_by: MadeBy

    @staticmethod
    def of(
        context: typer.Context, folder: Path, overwrite: bool, alliance: Alliance | AllianceRecord, scenes: ScenesRecord
    ) -> Output:
        """Choose the folder of the command that is running; nothing is written or removed before `start`.

        Raises:
            UserError: the folder holds an output already, and `overwrite` is not given.
        """
        if not overwrite and (held := _held_output(folder)):
            raise UserError(f"{folder}: already holds {held}; give another --out, or --overwrite to replace it")
        return Output(folder, MadeBy.of(context, alliance, scenes))

    def start(self, settings: Any = None) -> None:
        """Remove an earlier output, and write what makes this one, and the settings of the run, if it has any, to run.yaml."""
        for path in (path for pattern in _FILES for path in self.folder.glob(pattern)):
            path.unlink()
        with replacing(self.folder / RECORD_NAME) as temporary:
            save_config({MADE_BY: self.made_by, **(to_plain(settings) or {})}, temporary)

    def write_results(self, values: dict[str, Any], name: str = METRICS_NAME) -> None:
        """Write results as JSON, whole, with what made them."""
        write_json(self.folder / name, {**values, MADE_BY: to_plain(self.made_by)})


def unused_folder(folder: Path) -> Path:
    """Return the folder if it does not exist or is empty; else the first such folder of NAME-2, NAME-3 and on."""
    number, candidate = 1, folder
    while candidate.exists() and not (candidate.is_dir() and not any(candidate.iterdir())):
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


def _held_output(folder: Path) -> str:
    """Return a description of the output that a folder holds; empty if it holds none."""
    held = [name for name in _RESULTS if (folder / name).is_file() and (folder / name).stat().st_size]
    if not held:
        return ""
    made_by = read_made_by(folder)
    return f"an output ({held[0]})" if made_by is None else f"the output of `{made_by.command}` of {made_by.date}"


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
