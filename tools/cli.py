"""The command `heal`: one place that joins the commands; each lives in a file of its own."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from heal.agents.process import keep_freed_memory, sleep_while_waiting

sleep_while_waiting()
keep_freed_memory()

# ruff: noqa: E402 - torch must not be loaded before
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

app = typer.Typer(
    name="heal",
    help="Heterogeneous collaborative perception: train agent types, run simulations, evaluate detection.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
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


def main() -> None:
    """Run a command; what the user can mend is said in one line, everything else keeps its traceback."""
    try:
        app()
    except (ValueError, FileNotFoundError, TrainingStoppedError, ReplicaError) as error:
        console = Console(stderr=True)
        console.print("[bold red]error:[/]", end=" ")
        console.print(str(error), markup=False, highlight=False)
        sys.exit(2)


if __name__ == "__main__":
    main()
