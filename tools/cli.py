"""The command `heal` with all its subcommands, each from a file of its own that is read when the command is used."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup
from typer.main import get_command

import heal
from heal.agents.process import be_killed_with_parent, keep_freed_memory, limit_threads, sleep_while_waiting

sleep_while_waiting()
keep_freed_memory()
# The processes of a pool import this module too; until that is done they would not notice their parent's end.
PARENT_VARIABLE = "HEAL_PARENT_PID"
if multiprocessing.current_process().name != "MainProcess":
    be_killed_with_parent(int(os.environ.get(PARENT_VARIABLE, os.getppid())))
os.environ[PARENT_VARIABLE] = str(os.getpid())

# ruff: noqa: E402 - the calls above must come before torch is loaded
from heal.errors import UserError, file_system_cause
from heal.plugins import plugins_in_use, use_plugins
from heal.tools.terminal.signals import endings_as_interrupts
from heal.tools.terminal.style import STYLE
from heal.tools.terminal.verbosity import set_verbosity, shows_tracebacks

DISTRIBUTION = "heal-perception"


@dataclass(frozen=True)
class Command:
    """A command, which is imported when it is used: its networks and libraries take seconds to load.

    Attributes:
        module: the module's name in `heal.tools`.
        name: of the function or of the typer application in the module.
        summary: the first line of its help.
    """

    module: str
    name: str
    summary: str

    def load(self, name: str) -> Any:
        """Import the command and return it under a name, as the class of commands that typer uses."""
        module = import_module(f"heal.tools.{self.module}")
        found = getattr(module, self.name)
        if not isinstance(found, typer.Typer):
            application = typer.Typer(**STYLE)
            application.command(name, epilog=getattr(module, "EXAMPLES", None))(found)
            found = application
        command = get_command(found)
        command.name = name
        return command


COMMANDS: dict[str, Command] = {
    "generate": Command("generate", "generate", "Write scenes of the built-in town in the layout of OPV2V."),
    "convert": Command(
        "converting.command",
        "convert",
        "Convert a data set to OPV2V's layout, to bags of ROS 2 (MCAP) or to a cache, or bags to OPV2V's layout.",
    ),
    "show": Command("showing.command", "show", "Look at a data set: clouds, boxes, images, depth, and what does not fit."),
    "assign": Command("assign", "assign", "Assign agent types to the agents of a data set."),
    "doctor": Command("doctor.command", "doctor", "Say what is in a data set, what is wrong with it, and what to do."),
    "train": Command("train", "app", "Train a base, align agent types to it, or train a compressor of their maps."),
    "evaluate": Command(
        "evaluate", "evaluate", "Evaluate the detection AP of an alliance on a data set, against the labels of all agents in range."
    ),
    "score": Command("score", "score", "Score an evaluation again by other measures."),
    "simulate": Command(
        "simulate",
        "simulate",
        "Run a simulation: agents send feature maps over links, and a fusion node detects vehicles with those that arrive in time.",
    ),
    "agent": Command(
        "outside.agent",
        "agent",
        "Run one agent as a process of its own: at each tick of a simulation in another process it senses, encodes and sends.",
    ),
    "sweep": Command("sweep", "sweep", "Measure AP against one condition of a run."),
    "compare": Command("compare", "compare", "Compare methods on the same data, encoders, schedule and rules."),
    "rerun": Command(
        "rerun", "rerun", "Repeat the command that made an output, with the recorded settings, and say whether the AP is equal."
    ),
    "bench": Command("bench", "bench", "Measure the stages on this machine, which should be idle."),
    "profile": Command("profile_costs", "profile", "Measure what an alliance costs as it grows."),
    "analyse": Command("analyse", "analyse", "Show how an alliance fuses, and how alike its types' features are."),
    "view": Command("view", "view", "Play back a recorded run in 3D."),
    "demo": Command("demo", "demo", "Run agents of different types in an unseen town."),
    "import": Command("import_runs", "import_runs", "Import HEAL run folders as an alliance."),
    "export": Command("export", "export", "Export an alliance for HEAL, or as graphs for deployment."),
    "info": Command("info", "info", "Describe an alliance, or this installation."),
    "keys": Command("keys.command", "app", "Make, roll over and revoke the keys with which agents sign messages."),
    "alliance": Command(
        "alliance", "app", "Add a type to an alliance, record honest maps, pack it into one file, unpack it, and check it."
    ),
}


class LateCommands(TyperGroup):
    """The group of all commands: lists them without importing them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import a command and return it; None if there is none of this name."""
        return COMMANDS[cmd_name].load(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the names and summaries of all commands into the help text."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in COMMANDS.items()])


EXAMPLES = """\b
heal demo
heal simulate --alliance configs/demo/alliance --ticks 40 --out runs/drive
heal --quiet evaluate --alliance configs/demo/alliance --data runs/town --out runs/evaluation
heal --debug simulate --alliance configs/demo/alliance --out runs/drive
heal --plugin my_encoder.py info runs/mine
"""

app = typer.Typer(
    cls=LateCommands,
    name="heal",
    help="Heterogeneous collaborative perception: train agent types, run simulations, evaluate detection.",
    epilog=EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


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
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Show only results and errors, without status lines and progress bars.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the current steps in more detail.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the messages of all libraries too, and the traceback of every error.")
    ] = False,
    plugin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Python file or module with your own encoders or fusions; may be repeated. The variable HEAL_PLUGINS lists more.",
        ),
    ] = None,
) -> None:
    """Declare the options of `heal` itself, and prepare all commands; typer shows the help text of `app` instead of this one."""
    set_verbosity(quiet, verbose, debug)
    limit_threads()
    if plugin or plugins_in_use():
        use_plugins(plugin or [])


def _require_plugins_first(words: Sequence[str]) -> None:
    """Raise UserError where `--plugin` comes after the name of a command, which would take it for an unknown option."""
    after = itertools.dropwhile(lambda word: word not in COMMANDS, words)
    if any(word.partition("=")[0] == "--plugin" for word in after):
        raise UserError("--plugin is an option of heal itself, before the name of the command: heal --plugin FILE COMMAND ...")


def main() -> None:
    """Run the command line; print errors that the user can correct in one line, and leave the traceback of all others.

    The user can correct a `UserError`, and an error of the file system, such as a full disk.
    """
    try:
        _require_plugins_first(sys.argv[1:])
        with endings_as_interrupts():
            app()
    except (UserError, OSError) as error:
        message = file_system_cause(error) if isinstance(error, OSError) else str(error)
        if message is None or shows_tracebacks():
            raise
        console = Console(stderr=True, soft_wrap=True)
        console.print("[bold red]error:[/]", end=" ")
        console.print(message, markup=False, highlight=False)
        sys.exit(2)


if __name__ == "__main__":
    main()
