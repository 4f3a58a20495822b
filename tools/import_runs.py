"""`heal import`: turn run folders of HEAL (config.yaml and a checkpoint) into an alliance, or add them to one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from heal.agent_model import AgentModel
from heal.alliance import Alliance, AllianceError, TrainingRecord, load_alliance, save_agent, save_base
from heal.base_model import BaseConfig, BaseModel
from heal.checkpoint_file import read_checkpoint
from heal.config import ConfigError, load_yaml
from heal.layers.compressor import Compressor
from heal.opencood.late import import_detectors, is_late
from heal.opencood.one_type import import_one_type, is_one_type
from heal.opencood.run import ImportedRun, import_state
from heal.opencood.weights import State, merge_states
from heal.opencood.wrappers import UnwrappedState, unwrap
from heal.storage.compressors import save_compressor
from heal.storage.parts import hash_content
from heal.tools.info import describe_alliance
from heal.tools.shared.arguments import OnlyTypesArg, RenameArg
from heal.tools.shared.type_argument import split_names

console = Console()

RunsArg = Annotated[list[Path], typer.Argument(help="Run folders of HEAL; the base is taken from the last one.")]
OutArg = Annotated[Path, typer.Option(help="Alliance folder; to an existing alliance the agent types are added.")]
BaseWinsArg = Annotated[
    bool, typer.Option("--base-wins", help="If the bases of the folders differ, take the last folder's base instead of stopping.")
]


def import_runs(
    run_dirs: RunsArg, out: OutArg, types: OnlyTypesArg = None, rename: RenameArg = None, base_wins: BaseWinsArg = False
) -> None:
    """Import HEAL run folders as an alliance.

    If the alliance exists, the agent types are added to it. Run folders of stage 1, stage 2, merged models and baselines can be
    imported, with their compressors. Their bases must be equal, because each agent type is aligned to one base. Single-agent
    detectors have a base each, so every type of such runs becomes an alliance of its own, OUT/TYPE.

    \b
    heal import LOGS/final_infer --out runs/imported
    heal import LOGS/stage1 --out runs/imported
    heal import LOGS/stage2_m3 --rename m2=m3 --out runs/imported
    heal import LOGS/single_m1 LOGS/single_m2 --out runs/detectors
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    chosen, renamed = split_names(types) if types else None, parse_renames(rename or [])
    found = [(path, run) for path in run_dirs for run in read_runs(path, chosen)]
    require_known(renamed, [name for _, run in found for name in run.agents])
    runs = [(path, rename_agents(run, renamed)) for path, run in found]
    alliances = write_runs(runs, out, base_wins)
    for path, run in runs:
        if run.taken_off:
            console.print(f"{path}: took off {run.taken_off}", soft_wrap=True)
        if run.dropped:
            console.print(f"{path}: left out {len(run.dropped)} weights that no network uses, such as {run.dropped[0]}")
    for alliance in alliances:
        console.print(describe_alliance(alliance))


def read_runs(folder: Path, types: Sequence[str] | None = None) -> list[ImportedRun]:
    """Read a run folder of HEAL as `read_run` does; single-agent detectors are a run for each agent type."""
    if not _is_late(folder):
        return [read_run(folder, types)]
    with _open_run(folder) as (reference, unwrapped):
        return [replace(run, taken_off=str(unwrapped)) for run in import_detectors(reference, unwrapped.state, types)]


def read_run(folder: Path, types: Sequence[str] | None = None) -> ImportedRun:
    """Read a run folder of HEAL whose networks fuse agents' maps.

    Args:
        folder: with config.yaml and checkpoints.
        types: agent types to read; None for all.

    Raises:
        ConfigError: the folder cannot be imported; the message names the folder and the reason.
    """
    with _open_run(folder) as (reference, unwrapped):
        if is_one_type(reference):
            return replace(import_one_type(reference, unwrapped.state, types), taken_off=str(unwrapped))
        return replace(import_state(reference, unwrapped.state, types), taken_off=str(unwrapped))


def _is_late(folder: Path) -> bool:
    """Return whether a run folder holds single-agent detectors; False also for a folder that is none."""
    path = folder / "config.yaml"
    return path.is_file() and is_late(load_yaml(path))


@contextmanager
def _open_run(folder: Path) -> Iterator[tuple[Mapping[str, Any], UnwrappedState]]:
    """Open the configuration and the checkpoint of a run folder; a ConfigError of the block names the folder too."""
    checkpoint = find_checkpoint(folder)
    content = read_checkpoint(checkpoint)
    try:
        unwrapped = unwrap(content)
        yield load_yaml(folder / "config.yaml"), unwrapped
    except ConfigError as error:
        raise ConfigError(f"{folder} ({checkpoint.name}): {error}") from error


def write_runs(runs: Sequence[tuple[Path, ImportedRun]], out: Path, base_wins: bool = False) -> list[Alliance]:
    """Write runs, with the folders that they are from, as one alliance; or single-agent detectors as one for each, OUT/TYPE.

    Raises:
        AllianceError: as in `join_runs`.
        ConfigError: some runs are single-agent detectors, and others are not.
    """
    single = [run.base.pyramid.single_agent for _, run in runs]
    if not any(single):
        return [join_runs([run for _, run in runs], out, [path.name for path, _ in runs], base_wins)]
    if not all(single):
        raise ConfigError("single-agent detectors and runs that fuse maps share no alliance; import them one after the other")
    _require_distinct([name for _, run in runs for name in run.agents])
    return [join_runs([run], out / next(iter(run.agents)), [path.name]) for path, run in runs]


def find_checkpoint(folder: Path) -> Path:
    """Return the checkpoint that HEAL itself would load: the best one in validation, else that of the last epoch."""
    for pattern in (r"net_epoch_bestval_at(\d+)\.pth", r"net_epoch(\d+)\.pth"):
        found = {int(match[1]): path for path in folder.glob("*.pth") if (match := re.fullmatch(pattern, path.name))}
        if found:
            return found[max(found)]
    raise ConfigError(
        f"{folder} is no HEAL run folder: expected a checkpoint net_epoch_bestval_at<N>.pth or net_epoch<N>.pth beside config.yaml"
    )


def parse_renames(rename: Sequence[str]) -> dict[str, str]:
    """Parse `old=new` texts into a mapping from old to new names; ConfigError for any other text, or a type with two new names."""
    pairs = [text.partition("=") for text in rename]
    for old, equals, new in pairs:
        if not (old and equals and new):
            raise ConfigError(f"--rename {old}{equals}{new}: expected old=new, such as m2=m3")
    names = {old: new for old, _, new in pairs}
    if len(names) < len(pairs):
        raise ConfigError(f"--rename {' --rename '.join(rename)}: expected one new name for each type, got two for one of them")
    return names


def require_known(renames: Mapping[str, str], names: Sequence[str]) -> None:
    """Raise ConfigError if a type that is to be renamed does not exist."""
    for old, new in renames.items():
        if old not in names:
            raise ConfigError(f"--rename {old}={new}: no agent type {old!r}; there are {', '.join(names) or 'none'}")


def new_names(names: Iterable[str], renames: Mapping[str, str]) -> dict[str, str]:
    """Return the new name of every agent type; ConfigError if two types would have the same name."""
    result = {name: renames.get(name, name) for name in names}
    for new in result.values():
        olds = [old for old, name in result.items() if name == new]
        if len(olds) > 1:
            raise ConfigError(
                f"--rename: {' and '.join(olds)} would both be called {new}; give each a name of its own, "
                "or leave one of them out with --types"
            )
    return result


def rename_agents(run: ImportedRun, renames: Mapping[str, str]) -> ImportedRun:
    """Return the run with agent types renamed as in `new_names`; types that are not in `renames` keep their names."""
    names = new_names(run.agents, renames)
    return replace(
        run,
        agents={names[name]: settings for name, settings in run.agents.items()},
        agent_states={names[name]: state for name, state in run.agent_states.items()},
    )


def join_runs(runs: Sequence[ImportedRun], out: Path, sources: Sequence[str], base_wins: bool = False) -> Alliance:
    """Write several runs as an alliance, or add their agent types to the alliance at `out`.

    Args:
        runs: the base of the last one becomes the alliance's base, unless `out` is an alliance, which keeps its own.
        out: alliance folder.
        sources: name of each run for the training record.
        base_wins: accept runs with other bases.

    Runs that differ in their compressors alone can be joined: an agent type that is there already, with the same name, settings and
    weights, is not written again.

    Raises:
        AllianceError: the bases differ, two other agent types have the same name, two compressors have the same ratio, or `out`
            holds something else.
    """
    existing = _open_existing(out)
    runs = _without_repeated(runs, existing)
    there = (*existing.agent_names, *existing.foreign, *existing.unaligned) if existing else ()
    _require_distinct([*(name for run in runs for name in run.agents), *there])
    _require_distinct_ratios(
        [*(run.compressor.ratio for run in runs if run.compressor), *(existing.compressors if existing else ())]
    )
    settings = existing.card.config if existing else runs[-1].base
    _require_same_grid([run.base for run in runs], settings)
    states = [run.base_state for run in runs] + ([existing.base.state_dict()] if existing else [])
    state, differing = merge_states(states)
    if differing and not base_wins:
        raise AllianceError(
            f"the bases differ in {len(differing)} weights, such as {differing[0]}, so their types are aligned to different bases; "
            "import each run into its own alliance, or take the last base with --base-wins and expect worse detections"
        )
    base_hash = existing.base_hash if existing else _save_base(out, settings, state, sources[-1])
    for run, source in zip(runs, sources, strict=True):
        _save_agents(out, run, settings, base_hash, source)
    return load_alliance(out)


def _open_existing(out: Path) -> Alliance | None:
    """Open the alliance at `out`; None for an empty or missing folder, AllianceError for any other folder."""
    if (out / "base").exists():
        return load_alliance(out)
    if out.exists() and any(out.iterdir()):
        raise AllianceError(f"{out} is neither empty nor an alliance; choose another --out")
    return None


def _without_repeated(runs: Sequence[ImportedRun], existing: Alliance | None) -> list[ImportedRun]:
    """Return runs; those with a compressor without the types that the alliance or an earlier run has whole under the same name."""
    known = {(name, existing.agent_card(name).hash) for name in existing.agent_names} if existing else set[tuple[str, str]]()
    kept = []
    for run in runs:
        hashes = {name: hash_content(run.agent_states[name], settings) for name, settings in run.agents.items()}
        new = {name: run.agents[name] for name, found in hashes.items() if run.compressor is None or (name, found) not in known}
        kept.append(replace(run, agents=new))
        known |= set(hashes.items())
    return kept


def _require_distinct(names: Sequence[str]) -> None:
    """Raise AllianceError if two agent types have the same name."""
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise AllianceError(
            f"more than one agent type is called {', '.join(repeated)}; rename one of them with --rename {repeated[0]}=NEW"
        )


def _require_distinct_ratios(ratios: Sequence[int]) -> None:
    """Raise AllianceError if two compressors have the same ratio."""
    repeated = sorted({ratio for ratio in ratios if ratios.count(ratio) > 1})
    if repeated:
        raise AllianceError(f"more than one compressor has the ratio {repeated[0]}; import one of them into an alliance of its own")


def _require_same_grid(bases: Sequence[BaseConfig], wanted: BaseConfig) -> None:
    """Raise AllianceError if the grids differ in height or cell size; the range in x and y may differ."""
    for base in bases:
        found, expected = ((part.grid.range_m[2], part.grid.range_m[5], part.grid.cell_m) for part in (base, wanted))
        if found != expected:
            raise AllianceError(
                f"grids differ: z from {found[0]} to {found[1]} m in cells of {found[2]} m, "
                f"but the base has {expected[0]} to {expected[1]} m in cells of {expected[2]} m"
            )


def _save_base(out: Path, settings: BaseConfig, state: State, source: str) -> str:
    """Write the base of a new alliance; return its content hash."""
    model = BaseModel(settings)
    model.load_state_dict(state)
    return save_base(out, model, TrainingRecord(data=source))


def _save_agents(out: Path, run: ImportedRun, base: BaseConfig, base_hash: str, source: str) -> None:
    """Write the agent types and the compressor of a run into an alliance."""
    for name, settings in run.agents.items():
        model = AgentModel(settings, base.grid)
        model.load_state_dict(run.agent_states[name])
        save_agent(out, name, model, base_hash, TrainingRecord(data=source))
    if run.compressor is not None:
        compressor = Compressor(run.compressor)
        compressor.load_state_dict(run.compressor_state)
        save_compressor(out, compressor, base_hash, TrainingRecord(data=source))
