"""`heal rerun`: repeat the command that made an output, with its settings, and compare the AP of both."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from heal.errors import UserError
from heal.plugins import use_plugins
from heal.tools.shared.arguments import OverwriteArg
from heal.tools.shared.made_by import RECORD_NAME, MadeBy, read_made_by, split_command
from heal.tools.shared.output import METRICS_NAME, SWEEP_NAME, unused_folder

COMMANDS = ("simulate", "evaluate", "demo", "sweep")
# A rerun opens no viewer, and writes nothing outside its own folder: no recording, no scores into the alliance.
_OUTSIDE = ("view", "record")
_AP_KEYS = ("ap", "ready_ap", "measures")
_APART = ("differences",)  # to an earlier evaluation, which may be another one by now
console = Console()

FolderArg = Annotated[Path, typer.Argument(help="Folder of an output of simulate, evaluate, demo or sweep.")]
OutArg = Annotated[
    Path | None, typer.Option(help="Folder for the new output. Default: the old name with -2, or the next unused number.")
]


def rerun(context: typer.Context, folder: FolderArg, out: OutArg = None, overwrite: OverwriteArg = False) -> None:
    """Repeat the command that made an output, with the recorded settings, and say whether the AP is equal.

    The command in run.yaml runs in the recorded folder. The exit status is 1 if the AP is not equal. The AP of a run by the wall
    clock (--realtime) depends on the speed of the machine.

    \b
    heal rerun runs/simulation
    heal rerun runs/evaluation --out runs/evaluation-again
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    made_by, recorded = recorded_command(folder), ap_of(folder)
    target = out or Path(os.path.relpath(unused_folder(folder.resolve())))
    with _working_in(Path(made_by.folder)) as start:
        run_again(context, made_by.command, start / folder, start / target, overwrite)
    _print_changes(made_by, read_made_by(target))
    if unequal := differences(recorded, ap_of(target)):
        console.print(f"AP is not equal to that of {folder}:\n{unequal}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1)
    console.print(f"AP is equal to that of {folder}: all {len(recorded)} values", markup=False, highlight=False, soft_wrap=True)


def recorded_command(folder: Path) -> MadeBy:
    """Return what made the output in a folder.

    Raises:
        UserError: the folder has no record of a command that can be run again.
    """
    made_by = read_made_by(folder)
    words = [] if made_by is None else split_command(made_by.command)[1]
    if made_by is None or not words or words[0] not in COMMANDS:
        raise UserError(
            f"{folder}: expected a folder with a {RECORD_NAME} that `heal {', '.join(COMMANDS)}` of this version has written, "
            f"found {'no record of a command' if made_by is None else repr(made_by.command)}"
        )
    return made_by


def run_again(context: typer.Context, command_line: str, folder: Path, out: Path, overwrite: bool) -> None:
    """Run a recorded command with the settings in its folder, into another folder.

    Args:
        context: of the command that is running.
        command_line: the recorded command.
        folder: folder of its output.
        out: folder of the new output.
        overwrite: whether `out` may hold an output, which is replaced.
    """
    root = context.find_root()
    plugins, (name, *words) = split_command(command_line)
    use_plugins(plugins)
    group: Any = root.command
    command = group.get_command(root, name)
    has_settings = any(parameter.name == "settings_file" for parameter in command.params)
    # The last value of an option counts. The options of a run are part of its recorded settings, so giving both changes nothing.
    words += ["--out", str(out), *(["--config", str(folder / RECORD_NAME)] if has_settings else [])]
    with command.make_context(name, words, parent=root) as inner:
        inner.params |= {parameter.name: parameter.get_default(inner) for parameter in command.params if parameter.name in _OUTSIDE}
        inner.params["overwrite"] = overwrite
        command.invoke(inner)


def ap_of(folder: Path) -> dict[str, float | None]:
    """Return every AP in the results of a folder, by its place in the file; AP that does not exist is None.

    Raises:
        UserError: the folder has no results.
    """
    found: dict[str, float | None] = {}
    for path in (folder / METRICS_NAME, folder / SWEEP_NAME):
        if path.is_file():
            found |= _ap_in(json.loads(path.read_text(encoding="utf-8")))
    if not found:
        raise UserError(f"{folder}: expected {METRICS_NAME} or {SWEEP_NAME} with AP; a run that did not end has none")
    return found


def _ap_in(values: Any, place: str = "", is_ap: bool = False) -> dict[str, float | None]:
    """Return the numbers below the keys of AP in the values of a JSON file."""
    parts: dict[Any, Any] = (
        dict(values) if isinstance(values, Mapping) else dict(enumerate(values)) if isinstance(values, list) else {}
    )
    if not parts:
        return {place: values} if is_ap else {}
    found: dict[str, float | None] = {}
    for key, part in parts.items():
        if key not in _APART:
            found |= _ap_in(part, f"{place} {key}".strip(), is_ap or key in _AP_KEYS)
    return found


def differences(recorded: Mapping[str, float | None], new: Mapping[str, float | None]) -> str:
    """Return a line for each recorded AP that the new one is not equal to; empty if all are equal.

    A later version of this software may compute more AP than the recorded one did.
    """
    places = [place for place in recorded if recorded[place] != new.get(place, "missing")]
    return "\n".join(f"  {place}: {new.get(place, 'missing')}, recorded {recorded[place]}" for place in places)


def _print_changes(recorded: MadeBy, new: MadeBy | None) -> None:
    """Print what is not as it was when the recorded command ran, and may explain another AP."""
    if new is None:
        return
    pairs = {
        "version": (recorded.version, new.version),
        "alliance": (recorded.alliance.hash[:12], new.alliance.hash[:12]),
        "machine": (recorded.machine, new.machine),
    }
    for name, (before, now) in pairs.items():
        if before != now:
            console.print(f"another {name}: {now}, recorded {before}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _working_in(folder: Path) -> Iterator[Path]:
    """Work in a folder for the time of a block.

    Yields:
        The folder from which relative paths of the caller start: empty if it is the same one.

    Raises:
        UserError: the folder does not exist any more.
    """
    before = Path.cwd()
    if not folder.is_dir():
        raise UserError(f"{folder}: expected the folder where the command was run, which its relative paths start from; it is gone")
    if folder.samefile(before):
        yield Path()
        return
    os.chdir(folder)
    try:
        yield before
    finally:
        os.chdir(before)
