"""The command `heal`: one place that joins the commands; each lives in a file of its own."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from heal.tools import demo, evaluate, generate, info, simulate, train

app = typer.Typer(
    name="heal",
    help="Heterogeneous collaborative perception: train agent types, run simulations, evaluate detection.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(generate.generate)
app.add_typer(train.app, name="train")
app.command()(evaluate.evaluate)
app.command()(simulate.simulate)
app.command()(demo.demo)
app.command()(info.info)


def main() -> None:
    """Run a command; what the user can mend is said in one line, everything else keeps its traceback."""
    try:
        app()
    except (ValueError, FileNotFoundError, train.TrainingStoppedError) as error:
        Console(stderr=True).print(f"[bold red]error:[/] {error}", markup=True, highlight=False)
        sys.exit(2)


if __name__ == "__main__":
    main()
