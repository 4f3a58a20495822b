"""`heal assign`: give every agent of a data set an agent type, and write the assignment to a file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from heal.datasets.assignment import Assignment, write_assignment
from heal.datasets.open import open_dataset
from heal.errors import UserError
from heal.tools.shared.type_argument import split_names

console = Console()


def assign(
    root: Annotated[Path, typer.Argument(help="Folder of scenes: OPV2V layout or DAIR-V2X-C.")],
    out: Annotated[Path, typer.Option(help="JSON file to write: {scenario: {agent: type}}.")],
    types: Annotated[str, typer.Option(help="Agent types, separated by commas.")] = "m1,m2,m3,m4",
    split: Annotated[str, typer.Option(help="One split, or several separated by commas.")] = "test",
    in_order: Annotated[
        bool, typer.Option("--in-order", help="Assign the types in turn, in the order of the agents. Default: at random.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random types.")] = 0,
) -> None:
    """Assign agent types to the agents of a data set.

    With --in-order, the agents have the order of the paper's in-order evaluation: vehicles sorted by name, then roadside units.

    \b
    heal assign DATA --split test --types m1,m2,m3,m4 --in-order --out runs/in_order.json
    heal assign DATA --split train,validate --types m1,m2 --seed 303 --out runs/types.json
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    names = _distinct_names("--types", types)
    agents: dict[str, tuple[str, ...]] = {}
    for part in _distinct_names("--split", split):
        agents.update(open_dataset(root, part, on_damage="skip").scenario_agents)
    assignment = Assignment.in_order(agents, names) if in_order else Assignment.at_random(agents, names, seed)
    write_assignment(out, assignment)
    count = Counter(kind for scenario in assignment.types.values() for kind in scenario.values())
    text = ", ".join(f"{count[name]} {name}" for name in names)
    console.print(f"{out}: {sum(count.values())} agents in {len(agents)} scenarios: {text}")


def _distinct_names(option: str, text: str) -> list[str]:
    """Split names at their commas; ValueError if one is empty or is given twice."""
    names = split_names(text)
    if not all(names) or len(set(names)) != len(names):
        raise UserError(f"{option} {text!r}: expected names separated by commas, each once, such as m1,m2")
    return names
