"""The command `heal` with all its subcommands, each from a file of its own."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

import heal
from heal.agents.process import keep_freed_memory, sleep_while_waiting

sleep_while_waiting()
keep_freed_memory()

# ruff: noqa: E402 - the two calls above must come before torch is loaded
from heal.tools.assign import assign
from heal.tools.bench import bench
from heal.tools.demo import demo
from heal.tools.evaluate import evaluate
from heal.tools.export import export
from heal.tools.generate import generate
from heal.tools.import_runs import import_runs
from heal.tools.info import info
from heal.tools.simulate import EXAMPLES, simulate
from heal.tools.sweep import sweep
from heal.tools.train import app as train
from heal.tools.view import view
from heal.training.replica import ReplicaError
from heal.training.step import TrainingStoppedError

DISTRIBUTION = "heal-perception"

app = typer.Typer(
    name="heal",
    help="Heterogeneous collaborative perception: train agent types, run simulations, evaluate detection.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(generate)
app.command()(assign)
app.add_typer(train, name="train")
app.command()(evaluate)
app.command(epilog=EXAMPLES)(simulate)
app.command()(sweep)
app.command()(bench)
app.command()(view)
app.command()(demo)
app.command("import")(import_runs)
app.command()(export)
app.command()(info)


def _print_version(wanted: bool) -> None:
    """Print the name of the distribution and the version and exit, if the option was used."""
    if wanted:
        typer.echo(f"{DISTRIBUTION} {heal.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Declare the options of `heal` itself; typer shows the help text of `app` instead of this one."""


def main() -> None:
    """Run the command line; print errors that the user can correct in one line, and leave the traceback of all others."""
    try:
        app()
    except (ValueError, FileNotFoundError, TrainingStoppedError, ReplicaError) as error:
        console = Console(stderr=True)
        console.print("[bold red]error:[/]", end=" ")
        console.print(str(error), markup=False, highlight=False)
        sys.exit(2)


if __name__ == "__main__":
    main()
