"""The command `heal` with all its subcommands, each from a file of its own."""

from __future__ import annotations

import multiprocessing
import os
import sys
from typing import Annotated

import typer
from rich.console import Console

import heal
from heal.agents.process import be_killed_with_parent, keep_freed_memory, limit_threads, sleep_while_waiting

sleep_while_waiting()
keep_freed_memory()
# The processes of a pool import this module too, which takes seconds; until that is done they would not notice their parent's end.
PARENT_VARIABLE = "HEAL_PARENT_PID"
if multiprocessing.current_process().name != "MainProcess":
    be_killed_with_parent(int(os.environ.get(PARENT_VARIABLE, os.getppid())))
os.environ[PARENT_VARIABLE] = str(os.getpid())

# ruff: noqa: E402 - the calls above must come before torch is loaded
from heal.errors import UserError, file_system_cause
from heal.tools.assign import assign
from heal.tools.bench import bench
from heal.tools.demo import EXAMPLES as DEMO_EXAMPLES
from heal.tools.demo import demo
from heal.tools.evaluate import EXAMPLES as EVALUATE_EXAMPLES
from heal.tools.evaluate import evaluate
from heal.tools.export import export
from heal.tools.generate import generate
from heal.tools.import_runs import import_runs
from heal.tools.info import info
from heal.tools.rerun import rerun
from heal.tools.shared.signals import endings_as_interrupts
from heal.tools.simulate import EXAMPLES as SIMULATE_EXAMPLES
from heal.tools.simulate import simulate
from heal.tools.sweep import EXAMPLES as SWEEP_EXAMPLES
from heal.tools.sweep import sweep
from heal.tools.train import app as train
from heal.tools.view import view

DISTRIBUTION = "heal-perception"
# Set to anything but 0, it gives every error its traceback.
TRACEBACK_VARIABLE = "HEAL_TRACEBACK"

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
app.command(epilog=EVALUATE_EXAMPLES)(evaluate)
app.command(epilog=SIMULATE_EXAMPLES)(simulate)
app.command(epilog=SWEEP_EXAMPLES)(sweep)
app.command()(rerun)
app.command()(bench)
app.command()(view)
app.command(epilog=DEMO_EXAMPLES)(demo)
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
    """Declare the options of `heal` itself, and prepare all commands; typer shows the help text of `app` instead of this one."""
    limit_threads()


def main() -> None:
    """Run the command line; print errors that the user can correct in one line, and leave the traceback of all others.

    The user can correct a `UserError`, and an error of the file system, such as a full disk.
    """
    try:
        with endings_as_interrupts():
            app()
    except (UserError, OSError) as error:
        message = file_system_cause(error) if isinstance(error, OSError) else str(error)
        if message is None or os.environ.get(TRACEBACK_VARIABLE, "0") not in ("", "0"):
            raise
        console = Console(stderr=True, soft_wrap=True)
        console.print("[bold red]error:[/]", end=" ")
        console.print(message, markup=False, highlight=False)
        sys.exit(2)


if __name__ == "__main__":
    main()
