"""`heal profile`: what an alliance costs as it grows: parameters, operations, bytes, and memory and throughput of the trainings."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from heal.atomic_write import write_text
from heal.device import choose_device
from heal.errors import UserError
from heal.tools.benches.setup import SEED
from heal.tools.profiling.costs import Costs, Plan, measure_costs, work_items
from heal.tools.profiling.figure import draw_costs
from heal.tools.profiling.networks import Networks
from heal.tools.profiling.parameters import are_the_papers
from heal.tools.profiling.sheets import markdown_page, sheets_of
from heal.tools.shared.arguments import OverwriteArg
from heal.tools.shared.made_by import ScenesRecord
from heal.tools.shared.output import PROFILE_NAME, Output, try_folder
from heal.tools.shared.paths import config_path
from heal.tools.shared.scoring import read_evaluations
from heal.tools.shared.type_argument import split_names
from heal.tools.terminal.progress import progress_bar
from heal.tools.training.settings import resolve_settings

MARKDOWN_NAME, PICTURE_NAME = "profile.md", "profile.png"
EXAMPLES = """\b
heal profile configs/demo/alliance --out runs/demo-profile
heal profile configs/demo/alliance --in-order m1,m3 --agents 1,2,8 --no-training --out runs/demo-lidars
heal profile --base recipes/opv2v/final_m1m2m3m4.yaml --no-training --out runs/paper-profile
heal profile --base dair.yaml --types dair_m2,m3,dair_m4 --agents 1,2 --device cuda --out runs/dair-profile
"""
console = Console()

FolderArg = Annotated[Path | None, typer.Argument(metavar="[ALLIANCE]", help="Alliance folder.")]
OutArg = Annotated[Path, typer.Option(help="Folder for run.yaml, profile.json, profile.md and profile.png.")]
BaseArg = Annotated[
    str | None,
    typer.Option(help="Instead of an alliance, with random weights: YAML file of a base with its own type, or a shipped one."),
]
TypesArg = Annotated[
    str | None, typer.Option(help="With --base: YAML files of the types that join, or names of shipped ones, separated by commas.")
]
InOrderArg = Annotated[
    str | None, typer.Option(help="Types in the order in which they join. Default: all types, that of the base first.")
]
AgentsArg = Annotated[
    str, typer.Option(help="Numbers of agents of the frames whose operations are counted; the largest also for stage 1.")
]
DeviceArg = Annotated[str, typer.Option(help="Device of the trainings: cpu, cuda, or auto: a GPU if there is one.")]
StepsArg = Annotated[int, typer.Option(min=1, help="Training steps that are timed, after a first one whose memory is measured.")]
NoTrainingArg = Annotated[bool, typer.Option("--no-training", help="Do not measure memory and throughput of the trainings.")]


def profile(
    context: typer.Context,
    out: OutArg,
    alliance: FolderArg = None,
    base: BaseArg = None,
    types: TypesArg = None,
    in_order: InOrderArg = None,
    agents: AgentsArg = "1,2,3,4,5",
    device: DeviceArg = "auto",
    steps: StepsArg = 3,
    no_training: NoTrainingArg = False,
    overwrite: OverwriteArg = False,
) -> None:
    """Measure what an alliance costs as it grows.

    Parameters in all and trained, operations, bytes of messages, memory and throughput of the trainings. Sensor data come from the
    built-in town. The machine should be idle for the trainings; everything else does not depend on it.
    """
    plan = Plan(parse_numbers(agents), steps, choose_device(device), not no_training)
    networks = open_networks(alliance, base, types, in_order)
    scenes = ScenesRecord(source="town, preset dense", split="test", types=",".join(networks.names), seed=SEED)
    output = Output.of(context, out, overwrite, networks.record, scenes)
    evaluations = {} if alliance is None else read_evaluations(alliance)
    try_folder(out)
    with progress_bar("networks", work_items(networks, plan), console, transient=True) as bar:
        costs = measure_costs(networks, evaluations, plan, bar)
    write_costs(costs, output)


def open_networks(alliance: Path | None, base: str | None, types: str | None, in_order: str | None) -> Networks:
    """Open the networks that a command line names.

    Raises:
        UserError: it names an alliance and a configuration, or neither; or there is no such alliance or type.
    """
    if (alliance is None) == (base is None) or (alliance is not None and types is not None):
        raise UserError("expected an alliance folder, or --base with a configuration and --types with those that join it")
    if alliance is not None:
        return Networks.of_alliance(alliance, in_order)
    path = config_path(str(base))
    return Networks.of_settings(path.name, resolve_settings(path, None, []), types, in_order)


def parse_numbers(text: str) -> tuple[int, ...]:
    """Read numbers of agents, separated by commas, and return them in ascending order."""
    names = split_names(text)
    if not all(name.isdecimal() and int(name) > 0 for name in names):
        raise UserError(f"--agents {text}: expected numbers of agents from 1, separated by commas, such as 1,2,5")
    return tuple(sorted({int(name) for name in names}))


def write_costs(costs: Costs, output: Output) -> None:
    """Print all tables, and write them, their numbers and the figure into the output."""
    sheets, made_by, folder = sheets_of(costs), output.made_by, output.folder
    for sheet in sheets:
        console.print(sheet.for_terminal())
        console.print(f"{sheet.note}\n", markup=False, highlight=False)
    output.start()
    output.write_results({**asdict(costs), "papers_sizes": are_the_papers(costs.growth)}, PROFILE_NAME)
    title = made_by.alliance.path
    write_text(folder / MARKDOWN_NAME, markdown_page(title, made_by.margin, sheets))
    draw_costs(costs, title, folder / PICTURE_NAME, made_by.margin)
    console.print(f"numbers: {folder / PROFILE_NAME}   tables: {folder / MARKDOWN_NAME}   figure: {folder / PICTURE_NAME}")
