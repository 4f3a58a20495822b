"""`heal import`: run folders of HEAL, that is config.yaml and a checkpoint, become an alliance or join one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from heal.agent_model import AgentModel
from heal.alliance import Alliance, AllianceError, TrainingRecord, load_alliance, save_agent, save_base
from heal.base_model import BaseConfig, BaseModel
from heal.config import ConfigError, load_yaml
from heal.opencood.run import ImportedRun, import_state
from heal.opencood.weights import State, merge_states
from heal.tools.info import describe_alliance

console = Console()

RunsArg = Annotated[list[Path], typer.Argument(help="Run folders, the one whose base counts last.")]
OutArg = Annotated[Path, typer.Option(help="Alliance folder; agent types join the one that is there.")]
TypesArg = Annotated[str | None, typer.Option(help="Only these agent types, such as m1,m2.")]
RenameArg = Annotated[list[str] | None, typer.Option(help="old=new name of an agent type; may be repeated.")]
BaseWinsArg = Annotated[bool, typer.Option("--base-wins", help="Go on where the folders' bases differ: take the last one's.")]


def import_runs(
    run_dirs: RunsArg, out: OutArg, types: TypesArg = None, rename: RenameArg = None, base_wins: BaseWinsArg = False
) -> None:
    """Turn HEAL run folders into an alliance, or add their agent types to one.

    Folders of stage 1, of stage 2 and merged ones are read alike. Their bases must be equal: a type is aligned to one base.

    \b
    heal import LOGS/final_infer --out runs/imported
    heal import LOGS/stage1 --out runs/imported
    heal import LOGS/stage2_m3 --rename m2=m3 --out runs/imported
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    chosen, renamed = types.split(",") if types else None, parse_renames(rename or [])
    runs = [rename_agents(read_run(path, chosen), renamed) for path in run_dirs]
    alliance = join_runs(runs, out, [path.name for path in run_dirs], base_wins)
    for path, run in zip(run_dirs, runs, strict=True):
        if run.dropped:
            console.print(f"{path}: left out {len(run.dropped)} weights that no network reads, such as {run.dropped[0]}")
    console.print(describe_alliance(alliance))


def read_run(folder: Path, types: Sequence[str] | None = None) -> ImportedRun:
    """Read a run folder; ConfigError names the folder and what is wrong with it."""
    checkpoint = find_checkpoint(folder)
    try:
        return import_state(load_yaml(folder / "config.yaml"), load_checkpoint(checkpoint), types)
    except ConfigError as error:
        raise ConfigError(f"{folder} ({checkpoint.name}): {error}") from error


def find_checkpoint(folder: Path) -> Path:
    """The checkpoint that HEAL itself would go on from: the best in validation, else that of the last epoch."""
    for pattern in (r"net_epoch_bestval_at(\d+)\.pth", r"net_epoch(\d+)\.pth"):
        found = {int(match[1]): path for path in folder.glob("*.pth") if (match := re.fullmatch(pattern, path.name))}
        if found:
            return found[max(found)]
    raise ConfigError(
        f"{folder} is no HEAL run folder: expected net_epoch_bestval_at<N>.pth or net_epoch<N>.pth beside config.yaml"
    )


def load_checkpoint(path: Path) -> State:
    """Read weights and nothing else: a file that would run code is refused."""
    import pickle

    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ConfigError(f"{path}: not a file of weights alone ({error}); nothing else is loaded") from error
    if not isinstance(state, Mapping) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise ConfigError(f"{path}: expected a state dict, names and tensors, got {type(state).__name__}")
    return dict(state)


def parse_renames(rename: Sequence[str]) -> dict[str, str]:
    """Old to new names from `old=new`."""
    pairs = [text.partition("=") for text in rename]
    for old, equals, new in pairs:
        if not (old and equals and new):
            raise ConfigError(f"--rename {old}{equals}{new}: expected old=new, such as m2=m3")
    return {old: new for old, _, new in pairs}


def rename_agents(run: ImportedRun, names: Mapping[str, str]) -> ImportedRun:
    """The run with other names of its agent types."""
    return replace(
        run,
        agents={names.get(name, name): settings for name, settings in run.agents.items()},
        agent_states={names.get(name, name): state for name, state in run.agent_states.items()},
    )


def join_runs(runs: Sequence[ImportedRun], out: Path, sources: Sequence[str], base_wins: bool = False) -> Alliance:
    """Write an alliance of several runs, or add them to the one at `out`, whose base then counts.

    Raises:
        AllianceError: bases differ, two agent types have one name, or `out` is something else.
    """
    existing = _open_existing(out)
    _require_one_of_each([name for run in runs for name in run.agents] + list(existing.agent_names if existing else ()))
    settings = existing.card.config if existing else runs[-1].base
    _require_one_height([run.base for run in runs], settings)
    states = [run.base_state for run in runs] + ([existing.base.state_dict()] if existing else [])
    state, differing = merge_states(states)
    if differing and not base_wins:
        raise AllianceError(
            f"the bases differ in {len(differing)} weights, such as {differing[0]}, so their types are aligned to different ones; "
            "import each into an alliance of its own, or take the last one with --base-wins and expect worse detections"
        )
    base_hash = existing.base_hash if existing else _save_base(out, settings, state, sources[-1])
    for run, source in zip(runs, sources, strict=True):
        _save_agents(out, run, settings, base_hash, source)
    return load_alliance(out)


def _open_existing(out: Path) -> Alliance | None:
    if (out / "base").exists():
        return load_alliance(out)
    if out.exists() and any(out.iterdir()):
        raise AllianceError(f"{out} is neither empty nor an alliance; choose another --out")
    return None


def _require_one_of_each(names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise AllianceError(
            f"more than one agent type is called {', '.join(twice)}; give one another name with --rename {twice[0]}=NEW"
        )


def _require_one_height(bases: Sequence[BaseConfig], wanted: BaseConfig) -> None:
    for base in bases:
        found, expected = ((part.grid.range_m[2], part.grid.range_m[5], part.grid.cell_m) for part in (base, wanted))
        if found != expected:
            raise AllianceError(
                f"grids differ: z from {found[0]} to {found[1]} m in cells of {found[2]} m, "
                f"but the base has {expected[0]} to {expected[1]} m in cells of {expected[2]} m"
            )


def _save_base(out: Path, settings: BaseConfig, state: State, source: str) -> str:
    model = BaseModel(settings)
    model.load_state_dict(state)
    return save_base(out, model, TrainingRecord(data=source))


def _save_agents(out: Path, run: ImportedRun, base: BaseConfig, base_hash: str, source: str) -> None:
    for name, settings in run.agents.items():
        model = AgentModel(settings, base.grid)
        model.load_state_dict(run.agent_states[name])
        save_agent(out, name, model, base_hash, TrainingRecord(data=source))
