"""`heal train`: a base with its first agent type (stage 1), or new agent types for a base that stays as it is (stage 2)."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from heal.agent_types import everyone
from heal.agents.local_runtime import LocalRuntime
from heal.agents.options import RunOptions
from heal.alliance import Alliance, TrainingRecord, load_alliance, save_agent, save_base
from heal.collab_model import CollabModel
from heal.config import ConfigError, apply_overrides, build_config, load_config, load_yaml, save_config, to_plain
from heal.datasets.open import open_dataset
from heal.tools.pictures.draw import draw_tick
from heal.tools.shared.arguments import CacheArg, DataArg, ThreadsArg
from heal.tools.shared.paths import config_path, type_path
from heal.tools.training.job import TrainingJob, run_job, run_jobs
from heal.training.config import TrainConfig
from heal.types import SceneSource

app = typer.Typer(help="Train a base, or agent types.", no_args_is_help=True)
console = Console()


@app.callback()
def _group() -> None:
    """Train a base, or agent types."""


OutArg = Annotated[Path, typer.Option(help="Run folder; the result is an alliance at OUT/alliance.")]
ConfigArg = Annotated[str, typer.Option(help="YAML file, or the name of a shipped one.")]
InitArg = Annotated[Path | None, typer.Option(help="Alliance to start from; the config then changes only what it names.")]
SplitArg = Annotated[str, typer.Option(help="Split to train on.")]
SetArg = Annotated[list[str] | None, typer.Option("--set", help="key=value, such as training.epochs=5; may be repeated.")]
DeviceArg = Annotated[str, typer.Option(help="cpu, cuda, or auto.")]
RestartArg = Annotated[bool, typer.Option("--restart", help="Begin anew instead of going on from the last checkpoint.")]
BaseArg = Annotated[Path, typer.Option("--base", help="Alliance whose base the type is aligned to.")]
AllianceOutArg = Annotated[Path, typer.Option("--out", help="Alliance to put the type into; it may be BASE itself.")]
TypeOption = Annotated[str, typer.Option("--type", help="YAML file of the type, or the name of a shipped one.")]
TypesArg = Annotated[list[str], typer.Argument(help="YAML files of types, or names of shipped ones.")]


@app.command()
def base(
    data: DataArg,
    out: OutArg,
    config: ConfigArg = "base.yaml",
    init: InitArg = None,
    split: SplitArg = "train",
    overrides: SetArg = None,
    device: DeviceArg = "auto",
    threads: ThreadsArg = 0,
    cache: CacheArg = None,
    restart: RestartArg = False,
) -> None:
    """Train a base together with its first agent type (stage 1).

    Stopped or killed at any moment, the same command goes on from its last checkpoint to the same result.

    \b
    heal train base --data runs/town --config demo/base.yaml --out runs/town-base
    heal train base --data DAIR_ROOT --config demo/dair.yaml --init configs/demo/alliance --out runs/dair-base
    heal train base --data OPV2V --out runs/opv2v --set training.batch_scenes=2
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    initial = load_alliance(init) if init else None
    settings = resolve_settings(config_path(config), initial, overrides or [])
    prepare_run(out, settings, restart)
    _use_threads(threads)
    source = open_dataset(data, split, cache=cache)
    console.print(str(source.summary))
    initial_path, cache = init and init.absolute(), cache and cache.absolute()
    job = TrainingJob("base", settings, data.absolute(), split, len(source), initial_path, out.absolute(), cache)
    run_job(job, choose_device(device), console)
    model, seconds = job.trained()
    alliance = save_alliance(out / "alliance", model, settings, _record(job, seconds, initial))
    draw_predictions(alliance, next(iter(settings.agents)), source, out / "predictions.png")
    console.print(f"alliance: {out / 'alliance'}, a picture of what it finds: {out / 'predictions.png'}")


@app.command()
def agent(
    agent_type: TypeOption,
    base: BaseArg,
    data: DataArg,
    out: AllianceOutArg,
    config: ConfigArg = "agent.yaml",
    split: SplitArg = "train",
    overrides: SetArg = None,
    device: DeviceArg = "auto",
    threads: ThreadsArg = 0,
    cache: CacheArg = None,
    restart: RestartArg = False,
) -> None:
    """Align a new agent type to a base (stage 2): the base stays as it is, to the last bit, and no other type is needed.

    Only scenes of single agents with the new type's sensors are used. Checkpoints and logs lie beside OUT, in OUT-TYPE.

    \b
    heal train agent --type m2 --base runs/opv2v/alliance --data OPV2V --out runs/opv2v/alliance
    heal train agent --type my_lidar.yaml --base configs/demo/alliance --data runs/town --config demo/agent.yaml --out runs/mine
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    _use_threads(threads)
    source = open_dataset(data, split, cache=cache)
    console.print(str(source.summary))
    job = agent_job(agent_type, base, data, split, len(source), out, config, overrides or [], restart, cache)
    run_job(job, choose_device(device), console)
    _keep_agent(job, base, out, source)


@app.command()
def agents(
    agent_types: TypesArg,
    base: BaseArg,
    data: DataArg,
    out: AllianceOutArg,
    config: ConfigArg = "agent.yaml",
    split: SplitArg = "train",
    overrides: SetArg = None,
    device: DeviceArg = "auto",
    cache: CacheArg = None,
    restart: RestartArg = False,
) -> None:
    """Align several new types side by side, each in a process of its own: on a GPU each, or on a core each.

    \b
    heal train agents m2 m3 m4 --base runs/opv2v/alliance --data OPV2V --out runs/opv2v/alliance
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    source = open_dataset(data, split, cache=cache)
    console.print(str(source.summary))
    settings = [*(overrides or []), "training.replicas=1"]
    jobs = [agent_job(name, base, data, split, len(source), out, config, settings, restart, cache) for name in agent_types]
    run_jobs(jobs, choose_device(device), console)
    for job in jobs:
        _keep_agent(job, base, out, source)


def agent_job(
    agent_type: str,
    base: Path,
    data: Path,
    split: str,
    scenes: int,
    out: Path,
    config: str,
    overrides: list[str],
    restart: bool,
    cache: Path | None = None,
) -> TrainingJob:
    """The training of one type for the base of an alliance, its run folder made."""
    file = type_path(agent_type)
    settings = resolve_agent_settings(file, load_alliance(base), config_path(config), overrides)
    run = out.with_name(f"{out.name}-{file.stem}").absolute()
    prepare_run(run, settings, restart)
    return TrainingJob(file.stem, settings, data.absolute(), split, scenes, base.absolute(), run, cache and cache.absolute())


def resolve_settings(path: Path, initial: Alliance | None, overrides: list[str]) -> TrainConfig:
    """The settings of a stage 1 run: those of the alliance it starts from, if any, then the file, then the command line."""
    values: dict[str, Any] = {}
    if initial:
        names = initial.card.training.agent_types or initial.agent_names[:1]
        agents = {name: to_plain(initial.agent_card(name).config) for name in names}
        values = {"base": to_plain(initial.card.config), "agents": agents}
    given = load_yaml(path)
    given["agents"] = {name: _type_content(value) for name, value in given.get("agents", {}).items()}
    if not given["agents"]:
        del given["agents"]
    return build_config(TrainConfig, apply_overrides(_merge(values, given), overrides), str(path))


def resolve_agent_settings(type_file: Path, alliance: Alliance, path: Path, overrides: list[str]) -> TrainConfig:
    """The settings of a stage 2 run: the base of the alliance, one type, the file, then the command line."""
    frozen = {"frozen_base": True, "max_agents": 1, "random_ego": True}
    values = {"base": to_plain(alliance.card.config), "agents": {type_file.stem: load_yaml(type_file)}, "training": frozen}
    return build_config(TrainConfig, apply_overrides(_merge(load_yaml(path), values), overrides), f"{type_file}, {path}")


def prepare_run(run: Path, settings: TrainConfig, restart: bool) -> None:
    """Make the run folder and write the resolved settings; ConfigError if it holds a run with other settings."""
    if restart and run.exists():
        shutil.rmtree(run)
    run.mkdir(parents=True, exist_ok=True)
    resolved = run / "config.yaml"
    if resolved.exists() and load_config(TrainConfig, resolved) != settings:
        raise ConfigError(f"{resolved} belongs to a run with other settings; choose another --out, or --restart to begin anew")
    save_config(settings, resolved)


def save_alliance(path: Path, model: CollabModel, settings: TrainConfig, record: TrainingRecord) -> Alliance:
    """Write base and agent types, and open the result, which checks it."""
    half = settings.training.half_weights
    base_hash = save_base(path, model.base, record, half)
    for name in settings.agents:
        save_agent(path, name, model.agent(name), base_hash, record, half)
    return load_alliance(path)


def draw_predictions(alliance: Alliance, agent_type: str, source: SceneSource, path: Path) -> None:
    """A picture of what the trained networks find in the middle scene, all agents being of one type."""
    with LocalRuntime(alliance, source, everyone(agent_type), options=RunOptions(keep_views=True)) as runtime:
        draw_tick(next(runtime.run([len(source) // 2])), alliance.grid.range_m, path)


def choose_device(name: str) -> torch.device:
    """The device of that name; auto takes a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def _keep_agent(job: TrainingJob, base: Path, out: Path, source: SceneSource) -> None:
    """Put a trained type into the alliance, which gets a copy of the base first if it has none."""
    initial = load_alliance(base)
    if not (out / "base").exists():
        shutil.copytree(base / "base", out / "base")
    model, seconds = job.trained()
    record = _record(job, seconds, initial)
    save_agent(out, job.name, model.agent(job.name), initial.base_hash, record, job.settings.training.half_weights)
    alliance = load_alliance(out)
    draw_predictions(alliance, job.name, source, job.run / "predictions.png")
    console.print(f"{job.name} is in {out}, a picture of what it finds: {job.run / 'predictions.png'}")


def _record(job: TrainingJob, seconds: float, initial: Alliance | None) -> TrainingRecord:
    training = job.settings.training
    return TrainingRecord(
        data=job.data.name,
        scenes=job.scenes,
        epochs=training.epochs,
        seconds=round(seconds, 1),
        seed=training.seed,
        initial=initial.base_hash if initial else "",
        agent_types=tuple(job.settings.agents),
    )


def _use_threads(threads: int) -> None:
    if threads:
        torch.set_num_threads(threads)


def _type_content(value: Any) -> Any:
    """An agent type as it stands in a config: its content, or the name of its file."""
    return load_yaml(type_path(value)) if isinstance(value, str) else value


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings joined; where both have a plain value, `over` has the last word."""
    merged = dict(under)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged
