"""`heal train base`: stage 1, a base and the first agent type, from a folder of scenes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from heal.agent_model import AgentModel
from heal.agents.local_runtime import LocalRuntime
from heal.agents.records import RunOptions
from heal.alliance import Alliance, TrainingRecord, load_alliance, save_agent, save_base
from heal.collab import CollabModel
from heal.config import ConfigError, apply_overrides, build_config, load_config, load_yaml, save_config, to_plain
from heal.datasets.open import open_dataset
from heal.tools.arguments import DataArg, ThreadsArg
from heal.tools.draw import draw_tick
from heal.tools.paths import config_path
from heal.tools.train_config import StageOneConfig
from heal.tools.train_data import number_of_steps
from heal.tools.train_job import TrainingJob, run_job
from heal.types import SceneSource

app = typer.Typer(help="Train a base, or an agent type.", no_args_is_help=True)
console = Console()


@app.callback()
def _group() -> None:
    """Train a base, or an agent type."""


OutArg = Annotated[Path, typer.Option(help="Run folder; the result is an alliance at OUT/alliance.")]
ConfigArg = Annotated[str, typer.Option(help="YAML file, or the name of a shipped one.")]
InitArg = Annotated[Path | None, typer.Option(help="Alliance to start from; the config then changes only what it names.")]
SplitArg = Annotated[str, typer.Option(help="Split to train on.")]
SetArg = Annotated[list[str] | None, typer.Option("--set", help="key=value, such as training.epochs=5; may be repeated.")]
DeviceArg = Annotated[str, typer.Option(help="cpu, cuda, or auto.")]
RestartArg = Annotated[bool, typer.Option("--restart", help="Begin anew instead of going on from OUT's checkpoint.")]


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
    if threads:
        torch.set_num_threads(threads)
    source = open_dataset(data, split)
    console.print(str(source.summary))
    job = TrainingJob(settings, data.absolute(), split, init.absolute() if init else None, out.absolute())
    run_job(job, choose_device(device), number_of_steps(len(source), settings.training), console)
    model, seconds = job.trained()
    record = _record(data, len(source), settings, seconds, initial)
    alliance = save_alliance(out / "alliance", model, settings, record)
    draw_predictions(alliance, source, out / "predictions.png")
    console.print(f"alliance: {out / 'alliance'}, a picture of what it finds: {out / 'predictions.png'}")


def _record(data: Path, scenes: int, settings: StageOneConfig, seconds: float, initial: Alliance | None) -> TrainingRecord:
    return TrainingRecord(
        data=data.name,
        scenes=scenes,
        epochs=settings.training.epochs,
        seconds=round(seconds, 1),
        seed=settings.training.seed,
        initial=initial.base_hash if initial else "",
    )


def resolve_settings(path: Path, initial: Alliance | None, overrides: list[str]) -> StageOneConfig:
    """The settings of a run: those of the alliance it starts from, if any, then the file, then the command line."""
    values: dict[str, Any] = {}
    if initial:
        agent_type = initial.agent_names[0]
        values = {
            "base": to_plain(initial.card.config),
            "agent_type": agent_type,
            "agent": to_plain(initial.agent_card(agent_type).config),
        }
    values = apply_overrides(_merge(values, load_yaml(path)), overrides)
    return build_config(StageOneConfig, values, str(path))


def prepare_run(run: Path, settings: StageOneConfig, restart: bool) -> None:
    """Make the run folder and write the resolved settings; ConfigError if it holds a run with other settings."""
    if restart and run.exists():
        shutil.rmtree(run)
    run.mkdir(parents=True, exist_ok=True)
    resolved = run / "config.yaml"
    if resolved.exists() and load_config(StageOneConfig, resolved) != settings:
        raise ConfigError(f"{resolved} belongs to a run with other settings; choose another --out, or --restart to begin anew")
    save_config(settings, resolved)


def save_alliance(path: Path, model: CollabModel, settings: StageOneConfig, record: TrainingRecord) -> Alliance:
    """Write base and agent type, and open the result, which checks it."""
    half = settings.training.half_weights
    base_hash = save_base(path, model.base, record, half)
    agent = model.agents[settings.agent_type]
    assert isinstance(agent, AgentModel)
    save_agent(path, settings.agent_type, agent, base_hash, record, half)
    return load_alliance(path)


def draw_predictions(alliance: Alliance, source: SceneSource, path: Path) -> None:
    """A picture of what the trained networks find in the middle scene."""
    options = RunOptions(keep_points=True)
    name = alliance.agent_names[0]
    with LocalRuntime(alliance, source, everyone(name), options=options) as runtime:
        draw_tick(next(runtime.run([len(source) // 2])), alliance.grid.range_m, path)


def choose_device(name: str) -> torch.device:
    """The device of that name; auto takes a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings joined; where both have a plain value, `over` has the last word."""
    merged = dict(under)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged
