"""`heal compare`: methods on one bench: trains and evaluates all that is missing, and writes one report with tables and figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from heal.agents.process import usable_cores
from heal.config import to_plain
from heal.device import devices_to_share
from heal.tools.comparing.costs import measure_costs
from heal.tools.comparing.joining import joining_parameters
from heal.tools.comparing.page import REPORT_NAME, write_page
from heal.tools.comparing.plan import ComparePlan, key_of, plan_comparison
from heal.tools.comparing.results import COSTS_NAME, RESULTS_NAME, Results, read_results, summary, write_tables
from heal.tools.comparing.spec import load_spec
from heal.tools.comparing.work import Workshop, count_text
from heal.tools.shared.arguments import DeviceArg, OverwriteArg
from heal.tools.shared.made_by import AllianceRecord, ScenesRecord
from heal.tools.shared.output import COMPARE_NAME, Output, try_folder
from heal.tools.shared.paths import config_path
from heal.tools.terminal.tables import narrow_table
from heal.tools.training.arguments import SetArg
from heal.tools.training.run_folder import locked

EXAMPLES = """\b
heal compare compare/town_small.yaml --dry-run --out runs/town-small
heal compare compare/town_small.yaml --out runs/town-small
heal compare my_methods.yaml --workers 4 --out runs/my-methods --overwrite
"""
console = Console()

SpecArg = Annotated[str, typer.Argument(help="YAML file of the comparison, or the name of a shipped one.")]
OutArg = Annotated[Path, typer.Option(help="Folder for the report, its tables, and all trainings and evaluations.")]
WorkersArg = Annotated[
    int,
    typer.Option(
        min=0, help="Trainings and evaluations that run at once, each with one thread; 0 for one per GPU, or per usable core."
    ),
]
DryRunArg = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be done and how many parameters would be trained, and do nothing.")
]


def compare(
    context: typer.Context,
    spec: SpecArg,
    out: OutArg,
    overwrite: OverwriteArg = False,
    workers: WorkersArg = 0,
    device: DeviceArg = "auto",
    changes: SetArg = None,
    dry_run: DryRunArg = False,
) -> None:
    """Compare methods on the same data, encoders, schedule and rules.

    What a comparison has trained and evaluated stays in its folder, also under --overwrite, and is not done again: an interrupted
    comparison goes on where it stopped, and a method that is added to the file costs its own trainings alone. What fails is left
    out of the tables and named in the report; the same command tries it again.
    """
    path = config_path(spec)
    plan = plan_comparison(load_spec(path, changes or []))
    shop = Workshop(plan, out.absolute(), tuple(devices_to_share(device)))
    _print_plan(shop)
    if dry_run:
        console.print(_joining_table(plan))
        return
    output = Output.of(context, out, overwrite, _networks_record(path, plan), _scenes_record(plan))
    try_folder(out)
    with locked(out), _saying_what_stays():
        failures = shop.run(workers or _usual_workers(shop.devices), console)
        results = read_results(shop, measure_costs(shop, console), failures)
        _write(results, output)
    _print(results, out)


@contextmanager
def _saying_what_stays() -> Iterator[None]:
    """Say after Ctrl-C how the comparison goes on."""
    try:
        yield
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on from here")
        raise


def _usual_workers(devices: Sequence[str]) -> int:
    """Return how many trainings run at once: one on each GPU, or on each core without one."""
    return usable_cores() if devices[0] == "cpu" else len(devices)


def _print_plan(shop: Workshop) -> None:
    """Print how much there is to do."""
    plan = shop.plan
    evaluations = [one for entrant in plan.entrants for one in entrant.evaluations]
    missing = [one for entrant in plan.entrants for one in shop.evaluation_task(entrant).evaluations]
    for training in shop.missing_trainings():
        console.print(f"  to train: {training.title}", markup=False, highlight=False)
    console.print(count_text([*plan.trainings], shop.missing_trainings(), "trainings"), highlight=False)
    console.print(count_text(evaluations, missing, "evaluations"), highlight=False)


def _joining_table(plan: ComparePlan) -> Table:
    """Make a table of the parameters that every method trains when types join, in millions."""
    first, *joining = plan.spec.types
    headings = ("method", *(f"{kind} joins" for kind in joining), "one by one", "at once", "in all")
    table = narrow_table(headings, f"parameters that are trained when types join {first}, in millions")
    methods = {entrant.method: entrant for entrant in reversed(plan.entrants)}  # the same with every data set and seed
    for name, method in plan.spec.methods.items():
        counted = joining_parameters(plan, methods[name])
        sizes = *counted.by_type.values(), counted.one_by_one, counted.at_once, counted.in_all
        table.add_row(method.title or name, *(f"{size / 1e6:.2f}" for size in sizes))
    return table


def _networks_record(path: Path, plan: ComparePlan) -> AllianceRecord:
    """Describe the networks of a comparison: its file, and a hash of all trainings."""
    return AllianceRecord(path=str(path), hash=key_of(sorted(plan.trainings)))


def _scenes_record(plan: ComparePlan) -> ScenesRecord:
    spec = plan.spec
    return ScenesRecord(source=", ".join(spec.data), split="test", types=",".join(spec.types), seed=spec.run_seed)


def _write(results: Results, output: Output) -> None:
    """Write the tables, the report, and last the numbers of the short table, which say that the output is whole."""
    output.start({"comparison": to_plain(results.spec)})
    write_tables(results, output.folder)
    write_page(results, output.made_by, output.folder / REPORT_NAME)
    rows = [row.record() for row in summary(results)]
    output.write_results({"rows": rows, "failures": dict(results.failures)}, COMPARE_NAME)


def _print(results: Results, out: Path) -> None:
    """Print the short tables and what failed."""
    for title, rows in groupby(summary(results), key=lambda row: f"{row.data}, {row.condition}"):
        table = narrow_table(("method", "AP@0.3", "AP@0.5", "AP@0.7", "seeds"), title)
        for row in rows:
            table.add_row(results.title(row.method), *(spread.text() for spread in row.ap.values()), str(row.seeds))
        console.print(table)
    for name, cause in results.failures.items():
        console.print(f"failed: {name}: {cause}", markup=False, highlight=False)
    console.print(f"report: {out / REPORT_NAME}   tables: {out / RESULTS_NAME}, {out / COSTS_NAME}", highlight=False)
