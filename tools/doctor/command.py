"""`heal doctor`: say what is in a data set, what is wrong with it, and what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from heal.agents.process import usable_cores
from heal.datasets.damage_list import is_damage_list, write_damage_list
from heal.datasets.dataset import Dataset
from heal.datasets.doctor.checkup import Checkup, Walk, damage_list, verdict
from heal.datasets.doctor.facts import Installed, SceneReport
from heal.datasets.doctor.places import Places
from heal.errors import UserError
from heal.tools.doctor.links import make_links
from heal.tools.doctor.report import Report
from heal.tools.doctor.walk import walk
from heal.tools.terminal.progress import track

EXIT_CODES = {"usable": 0, "usable with exceptions": 3, "not usable": 4}
INTERRUPTED = 130
console = Console(stderr=True)
output = Console()
EXAMPLES = """\b
heal doctor DATA
heal doctor DATA --skip-list runs/skip.json
heal doctor DATA --fix runs/links
"""


def _walk_shown(processes: int) -> Walk:
    """Return a walk over the scenes of a split in several processes, with a progress bar."""

    def shown(source: Dataset, installed: Installed) -> Iterator[SceneReport]:
        text = f"reading {source.summary.split}"
        return track(walk(source, installed, processes), text, len(source), console, transient=True)

    return shown


def doctor(
    root: Annotated[Path, typer.Argument(help="Folder of scenes, as for --data of the other commands.")],
    skip_list: Annotated[
        Path,
        typer.Option(help="JSON file for the list of the scenes with errors, which --on-damage takes; not written without any."),
    ] = Path("runs/doctor/skip.json"),
    fix: Annotated[
        Path | None,
        typer.Option(help="New folder of links in which misplaced archives are in their place. The data stay as they are."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all findings as JSON on the standard output, and nothing else there.")
    ] = False,
    workers: Annotated[int, typer.Option(min=0, help="Number of processes; 0 for one per core that the process may use.")] = 0,
) -> None:
    """Say what is in a data set, what is wrong with it, and what to do.

    Every file of every scene is read. Exit code: 0 usable, 3 usable with exceptions, 4 not usable.
    """
    if skip_list.exists() and not is_damage_list(skip_list):
        raise UserError(f"--skip-list {skip_list}: expected a new file, or a list of an earlier checkup, which is replaced")
    checkup, interrupted = Checkup(), False
    try:
        checkup.examine(root, _walk_shown(workers or usable_cores()))
    except KeyboardInterrupt:
        interrupted = True
    report = _report(root, checkup, interrupted, skip_list)
    if as_json:
        output.print_json(json.dumps(report.record()))
    else:
        report.show(output)
    _fix(fix, checkup.places)
    raise typer.Exit(INTERRUPTED if report.verdict is None else EXIT_CODES[report.verdict])


def _report(root: Path, checkup: Checkup, interrupted: bool, skip_list: Path) -> Report:
    """Judge the data set, and write the list of the scenes to leave out if there are any and others are left."""
    splits, findings = checkup.splits, checkup.findings
    if interrupted:
        return Report(root, None, splits, findings)
    from heal.tools.doctor.configurations import check_configurations

    judged = verdict(splits, findings)
    known = damage_list(findings)
    if known and judged != "not usable":
        write_damage_list(skip_list, splits[0].source.summary.root, known)
    listed = skip_list if known and judged != "not usable" else None
    return Report(root, judged, splits, findings, check_configurations(splits) if splits else [], listed)


def _fix(folder: Path | None, places: Places) -> None:
    """Make the links that are asked for, and say so."""
    if folder is None:
        return
    if places.links:
        make_links(folder, places.links)
        for place, target in sorted(places.links.items()):
            console.print(f"linked {folder / place} to {target}", markup=False, soft_wrap=True)
        console.print(f"use {folder} as the data set; remove this folder to undo it", markup=False, soft_wrap=True)
    else:
        console.print("--fix: nothing is out of place, so no link was made", markup=False)
