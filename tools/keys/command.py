"""`heal keys`: make the keys with which agents sign their messages, roll them over, revoke them, and list them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from heal.errors import UserError
from heal.identity.allow_list import AllowedKey, AllowList, allow_list_path, now
from heal.identity.key_folder import add_agents, revoke_keys, roll_keys
from heal.tools.shared.arguments import SourceArg, SourceSplitArg
from heal.tools.shared.preset_option import PresetArg
from heal.tools.shared.sources import TOWN, open_source
from heal.tools.shared.type_argument import split_names
from heal.tools.terminal.style import STYLE
from heal.tools.terminal.tables import narrow_table

EXAMPLES = """\b
heal keys new runs/keys --seed 3
heal simulate --alliance configs/demo/alliance --ticks 40 --seed 3 --set run.keys=runs/keys --out runs/signed
heal keys roll runs/keys --agents -1
heal keys revoke runs/keys --agents 1001
heal keys list runs/keys
"""
app = typer.Typer(
    help="Make, roll over and revoke the keys with which agents sign messages.", epilog=EXAMPLES, no_args_is_help=True, **STYLE
)
console = Console(soft_wrap=True)

FolderArg = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of keys: private keys, and the list of allowed senders.")]
AgentsArg = Annotated[str, typer.Option("--agents", metavar="ID,ID", help="Ids of the agents, separated by commas.")]
NewAgentsArg = Annotated[
    str | None,
    typer.Option("--agents", metavar="ID,ID", help="Ids of the agents. Default: all agents of the scenes of --source."),
]
TypesArg = Annotated[str | None, typer.Option(help="Agent types that these agents may have. Default: any.")]
DaysArg = Annotated[float | None, typer.Option(min=0, help="Days for which the new keys are valid. Default: without end.")]
OverlapArg = Annotated[float, typer.Option(min=0, help="Time in s for which the present keys stay valid beside the new ones.")]
TicksArg = Annotated[int | None, typer.Option(min=1, help="Number of ticks of the town whose agents get keys.")]
SeedArg = Annotated[int, typer.Option(min=0, help="Seed of the town.")]


@app.command("new")
def new_command(
    folder: FolderArg,
    agents: NewAgentsArg = None,
    source: SourceArg = TOWN,
    preset: PresetArg = "demo",
    split: SourceSplitArg = None,
    ticks: TicksArg = None,
    seed: SeedArg = 0,
    types: TypesArg = None,
    days: DaysArg = None,
) -> None:
    """Make a private key for each agent, and put its public key on the list of allowed senders.

    The folder may have keys of other agents already; no key is overwritten.

    \b
    heal keys new runs/keys --seed 3
    heal keys new runs/keys --agents visitor --types m1,m3 --days 30
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    if agents is None:
        scenes = open_source(source, preset, split, ticks, seed, quiet=True)
        ids = list(dict.fromkeys(agent_id for index in range(len(scenes)) for agent_id in scenes.outline(index).agent_ids))
    else:
        ids = _ids(agents)
    add_agents(folder, ids, _moment(), _days(days), None if types is None else split_names(types))
    console.print(f"{folder}: new keys of {len(ids)} agents: {', '.join(ids)}", markup=False, highlight=False)


@app.command("roll")
def roll_command(folder: FolderArg, agents: AgentsArg, overlap_s: OverlapArg = 3600.0, days: DaysArg = None) -> None:
    """Give agents new keys, and let their present keys end after an overlap.

    A run that goes on takes the new keys at its next tick.

    \b
    heal keys roll runs/keys --agents -1,1001 --overlap-s 600
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    ids = _ids(agents)
    roll_keys(folder, ids, _moment(), timedelta(seconds=overlap_s), _days(days))
    console.print(f"{folder}: rolled over the keys of {', '.join(ids)}", markup=False, highlight=False)


@app.command("revoke")
def revoke_command(folder: FolderArg, agents: AgentsArg) -> None:
    """Revoke all keys of agents from now on; a run that goes on refuses their messages from its next tick.

    `heal keys roll` gives an agent a new key afterwards.

    \b
    heal keys revoke runs/keys --agents 1001
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    ids = _ids(agents)
    revoke_keys(folder, ids, _moment())
    console.print(f"{folder}: revoked the keys of {', '.join(ids)}", markup=False, highlight=False)


@app.command("list")
def list_command(folder: FolderArg) -> None:
    """List the allowed senders with their public keys, and whether these count now.

    \b
    heal keys list runs/keys
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    table = narrow_table(("agent", "types", "key id", "valid from", "valid until", "now"))
    for agent_id, agent in AllowList.read(allow_list_path(folder)).agents.items():
        for key in agent.keys:
            table.add_row(agent_id, ", ".join(agent.types or ("any",)), *_cells(key))
    console.print(table, markup=False, highlight=False)


def _cells(key: AllowedKey) -> Sequence[str]:
    problem = key.problem(now())
    moments = (moment.strftime("%Y-%m-%d %H:%M:%SZ") if moment else "" for moment in (key.valid_from, key.valid_until))
    return key.key_id.hex()[:16], *moments, "valid" if problem is None else problem[0]


def _moment() -> datetime:
    """Return the present time to the second, as it is written into the list."""
    return now().replace(microsecond=0)


def _ids(text: str) -> list[str]:
    """Split ids at their commas; UserError if one is empty or is given twice."""
    ids = split_names(text)
    if not ids or not all(ids) or len(set(ids)) != len(ids):
        raise UserError(f"--agents {text!r}: expected ids separated by commas, each once, such as -1,1001")
    return ids


def _days(days: float | None) -> timedelta | None:
    return None if days is None else timedelta(days=days)
