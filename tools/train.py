"""`heal train`: train a base with its first type (stage 1), align new types to a frozen base (stage 2), train a compressor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from heal.agent_types import same_type
from heal.agents.local_runtime import LocalRuntime
from heal.agents.options import RunOptions
from heal.alliance import Alliance, TrainingRecord, load_alliance, require_base, save_agent, save_base
from heal.collab_model import CollabModel
from heal.defence.statistics import MapStatistics
from heal.device import choose_device
from heal.storage.parts import copy_part
from heal.tools.pictures.draw import draw_tick
from heal.tools.shared.arguments import CacheArg, DataArg, DeviceArg, IntensityScaleArg, OnDamageArg, ThreadsArg
from heal.tools.shared.paths import config_path, type_path
from heal.tools.shared.sources import ReadOptions
from heal.tools.terminal.style import STYLE
from heal.tools.training.arguments import ConfigArg, RestartArg, SetArg, SplitArg, ValSplitArg
from heal.tools.training.compressor import compressor
from heal.tools.training.honest_maps import statistics_of_agent, statistics_of_base
from heal.tools.training.job import TrainingJob, run_job, run_jobs
from heal.tools.training.run_folder import PICTURE_NAME
from heal.tools.training.scenes import ScenesOfTraining
from heal.tools.training.settings import reading_of, resolve_agent_settings, resolve_settings
from heal.tools.training.teacher import with_teacher
from heal.tools.training.trust import calibrate_trust
from heal.tools.training.whole import held_folders, load_result, prepare, training_record, use_threads
from heal.training.config import TrainingConfig
from heal.training.own_range import own_range
from heal.types import SceneSource

EXAMPLES = """\b
heal train base --data runs/town --config demo/base.yaml --out runs/town-base
heal train agent --type m2 --base runs/town-base/alliance --data runs/cameras --config demo/agent.yaml --out runs/town-base/alliance
heal train agents m2 m3 --base runs/opv2v/alliance --data OPV2V --out runs/opv2v/alliance
heal train compressor --alliance runs/opv2v/alliance --data OPV2V --ratio 8 --out runs/opv2v/alliance
"""
app = typer.Typer(
    help="Train a base, align agent types to it, or train a compressor of their maps.",
    epilog=EXAMPLES,
    no_args_is_help=True,
    **STYLE,
)
console = Console()

OutArg = Annotated[Path, typer.Option(help="Run folder; the trained alliance is written to OUT/alliance.")]
InitArg = Annotated[
    Path | None, typer.Option(help="Alliance to start from; the settings then only override those of the alliance.")
]
InitAgentArg = Annotated[
    Path | None,
    typer.Option(
        "--init",
        help="Start from a trained type: an alliance with a type of this name, or the folder of another type in its alliance. Its "
        "weights must have the same shapes. Its trust is kept if there are no validation scenes.",
    ),
]
BaseArg = Annotated[Path, typer.Option("--base", help="Alliance with the base that the type is aligned to.")]
AllianceOutArg = Annotated[Path, typer.Option("--out", help="Alliance folder to which the type is added; may be BASE itself.")]
TypeOption = Annotated[str, typer.Option("--type", help="YAML file of the agent type, or the name of a shipped one.")]
TypesArg = Annotated[list[str], typer.Argument(help="YAML files of agent types, or names of shipped ones.")]


app.command()(compressor)


@app.command()
def base(
    data: DataArg,
    out: OutArg,
    config: ConfigArg = "base.yaml",
    init: InitArg = None,
    split: SplitArg = "train",
    val_split: ValSplitArg = None,
    overrides: SetArg = None,
    device: DeviceArg = "auto",
    threads: ThreadsArg = 0,
    cache: CacheArg = None,
    on_damage: OnDamageArg = "stop",
    intensity_scale: IntensityScaleArg = None,
    restart: RestartArg = False,
) -> None:
    """Train a base together with its first agent type (stage 1).

    Repeat the command of an interrupted or killed training to resume it from its last checkpoint; the result is the same. Settings
    that change neither networks nor data, such as training.learning_rate or training.epochs, may be changed.

    \b
    heal train base --data runs/town --config demo/base.yaml --out runs/town-base
    heal train base --data DAIR_ROOT --config demo/dair.yaml --init configs/demo/alliance --out runs/dair-base
    heal train base --data OPV2V --config recipes/opv2v/joint_m1m2.yaml --out runs/joint --set training.batch_scenes=2
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    initial = load_alliance(init) if init else None
    settings = with_teacher(resolve_settings(config_path(config), initial, overrides or []))
    use_threads(threads)
    reading = reading_of(settings, ReadOptions.of(on_damage, intensity_scale, cache))
    chosen, source = choose_device(device), reading.open_and_show(data, split)
    job = TrainingJob("base", settings, data.absolute(), split, len(source), init and init.absolute(), out.absolute(), reading)
    [job], summary = prepare([job], source, val_split, chosen, console)
    with held_folders([job], summary, restart, console):
        run_job(job, chosen, console)
        alliance = _write_base(job, out / "alliance", initial)
        scenes = ScenesOfTraining(job.open(), settings.training)
        draw_predictions(alliance, next(iter(settings.agents)), scenes, out / PICTURE_NAME, settings.training.merge_points)
    console.print(f"alliance: {out / 'alliance'}   picture of its detections: {out / PICTURE_NAME}")


@app.command()
def agent(
    agent_type: TypeOption,
    base: BaseArg,
    data: DataArg,
    out: AllianceOutArg,
    config: ConfigArg = "agent.yaml",
    init: InitAgentArg = None,
    split: SplitArg = "train",
    val_split: ValSplitArg = None,
    overrides: SetArg = None,
    device: DeviceArg = "auto",
    threads: ThreadsArg = 0,
    cache: CacheArg = None,
    on_damage: OnDamageArg = "stop",
    intensity_scale: IntensityScaleArg = None,
    restart: RestartArg = False,
) -> None:
    """Align a new agent type to a base (stage 2). The base does not change by a bit, and no other agent type is needed.

    The training uses single agents only, with the sensors of the new type. Checkpoints and logs are written to the folder OUT-TYPE.

    \b
    heal train agent --type m3 --config recipes/opv2v/stage2_m3 --base runs/opv2v/alliance --data OPV2V --out runs/opv2v/alliance
    heal train agent --type my_lidar.yaml --base configs/demo/alliance --data runs/town --config demo/agent.yaml --out runs/mine
    heal train agent --type my_lidar.yaml --base runs/dair-base/alliance --data DAIR_ROOT --init runs/mine --out runs/dair-mine
    heal train agent --type pole.yaml --base runs/mine --data runs/town --init configs/demo/alliance/m2 --out runs/mine
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    use_threads(threads)
    reading, chosen = ReadOptions.of(on_damage, intensity_scale, cache), choose_device(device)
    job = agent_job(agent_type, base, data, split, out, config, overrides or [], reading)
    source = job.reading.open_and_show(data, split)
    job = starting_from(init, job) if init else job
    _print_range(job, base)
    [job], summary = prepare([job], source, val_split, chosen, console)
    with held_folders([job], summary, restart, console):
        run_job(job, chosen, console)
        _add_agent(job, base, out)


@app.command()
def agents(
    agent_types: TypesArg,
    base: BaseArg,
    data: DataArg,
    out: AllianceOutArg,
    config: ConfigArg = "agent.yaml",
    split: SplitArg = "train",
    val_split: ValSplitArg = None,
    overrides: SetArg = None,
    device: DeviceArg = "auto",
    cache: CacheArg = None,
    on_damage: OnDamageArg = "stop",
    intensity_scale: IntensityScaleArg = None,
    restart: RestartArg = False,
) -> None:
    """Align several new agent types at once, each in its own process.

    Each process has one GPU, or one CPU core if there is no GPU.

    \b
    heal train agents m2 m3 m4 --base runs/opv2v/alliance --data OPV2V --out runs/opv2v/alliance
    heal train agents slim.yaml wide.yaml --base configs/demo/alliance --data runs/town --config demo/agent.yaml --out runs/mine
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    reading, chosen = ReadOptions.of(on_damage, intensity_scale, cache), choose_device(device)
    settings = [*(overrides or []), "training.replicas=1"]
    jobs = [agent_job(name, base, data, split, out, config, settings, reading) for name in agent_types]
    source = jobs[0].reading.open_and_show(data, split)
    for job in jobs:
        _print_range(job, base)
    jobs, summary = prepare(jobs, source, val_split, chosen, console)
    with held_folders(jobs, summary, restart, console):
        run_jobs(jobs, chosen, console)
        for job in jobs:
            _add_agent(job, base, out)


def agent_job(
    agent_type: str,
    base: Path,
    data: Path,
    split: str,
    out: Path,
    config: str,
    overrides: list[str],
    reading: ReadOptions,
) -> TrainingJob:
    """Return the training of one agent type for the base of an alliance, with the run folder OUT-TYPE and no scenes chosen yet.

    Nothing is written.

    Args:
        agent_type: YAML file of the type, or the name of a shipped one.
        base: alliance with the base.
        data: folder of scenes.
        split: split of the data.
        out: alliance folder to which the type will be added.
        config: YAML file with the settings, or the name of a shipped one.
        overrides: `key=value` changes of settings.
        reading: how the data are read; their ground truth and the number of their agents follow from the settings.

    Raises:
        AllianceError: `out` is an alliance with another base.
    """
    file, alliance = type_path(agent_type), load_alliance(base)
    require_base(out, alliance.base_hash)
    settings = resolve_agent_settings(file, alliance, config_path(config), overrides)
    run = out.with_name(f"{out.name}-{file.stem}").absolute()
    reading = reading_of(settings, reading)
    return TrainingJob(file.stem, settings, data.absolute(), split, 0, base.absolute(), run, reading)


def starting_from(init: Path, job: TrainingJob) -> TrainingJob:
    """Return the training of an agent type, started from the type in the folder `init`, or that of its name in an alliance.

    Raises:
        AllianceError: `init` is no such folder and has no such type.
    """
    start = (init if (init / "agent.yaml").is_file() else init / job.name).absolute()
    training = replace(job.settings.training, started_from=load_alliance(start.parent).agent_card(start.name).hash)
    return replace(job, init_agent=start, settings=replace(job.settings, training=training))


def save_alliance(
    path: Path,
    model: CollabModel,
    settings: TrainingConfig,
    record: TrainingRecord,
    statistics: Mapping[str, MapStatistics] | None = None,
) -> Alliance:
    """Write base and agent types, with the statistics of maps by type, and open the alliance, which checks the hashes."""
    half, known = settings.training.half_weights, statistics or {}
    base_hash = save_base(path, model.base, record, half)
    for name in settings.agents:
        save_agent(path, name, model.agent(name), base_hash, record, half, statistics=known.get(name))
    return load_alliance(path)


def draw_predictions(alliance: Alliance, agent_type: str, source: SceneSource, path: Path, early: bool = False) -> None:
    """Draw the detections in the middle scene of a source, with all agents of one type, or of a single-agent detector the ego's.

    With `early` the agents send points.
    """
    agents = 1 if alliance.card.config.pyramid.single_agent and not early else None
    options = RunOptions(agents, keep_views=True, count_points=True, split="points" if early else "feature")
    with LocalRuntime(alliance, source, same_type(agent_type), options=options) as runtime:
        draw_tick(next(runtime.run([len(source) // 2])), alliance.grid.range_m, path)


def _write_base(job: TrainingJob, out: Path, initial: Alliance | None) -> Alliance:
    """Write the alliance of a trained base and its agent types, and open it."""
    result = load_result(job, console)
    statistics = statistics_of_base(result.model, job, console)
    return save_alliance(out, result.model, job.settings, training_record(job, result, initial), statistics)


def _add_agent(job: TrainingJob, base: Path, out: Path) -> None:
    """Add a trained type to the alliance at `out`, after copying the base if `out` has none, and draw its detections."""
    initial = load_alliance(base)
    copy_part(base, out, "base")
    result, training = load_result(job, console), job.settings.training
    model, record = result.model.agent(job.name), training_record(job, result, initial)
    trust = calibrate_trust(initial, job.name, model, job.open_validation(), training, console, _trust_before(job, out))
    statistics = statistics_of_agent(initial, model, job, console).get(job.name)
    save_agent(out, job.name, model, initial.base_hash, record, training.half_weights, trust, statistics)
    alliance = load_alliance(out)
    draw_predictions(alliance, job.name, ScenesOfTraining(job.open(), job.settings.training), job.run / PICTURE_NAME)
    console.print(f"{job.name} was added to {out}   picture of its detections: {job.run / PICTURE_NAME}")


def _trust_before(job: TrainingJob, out: Path) -> float:
    """Return the trust in the type that a training starts from, else in that of its name in `out`, else 1."""
    known = job.init_agent or out / job.name
    alliance = load_alliance(known.parent)
    return alliance.trust_of(known.name) if known.name in alliance.agent_names else 1.0


def _print_range(job: TrainingJob, base: Path) -> None:
    """Print the range that a type is trained on, if it is smaller than its base's."""
    grid, whole = job.settings.base.grid, load_alliance(base).card.config.grid
    own = own_range(job.settings.agents[job.name], whole)
    if grid != whole:
        (x_m, y_m), maps = grid.range_m[3:5], f"maps +-{own[3]:g} x +-{own[4]:g} m and " if own else ""
        console.print(f"{job.name} {maps}is trained on +-{x_m:g} x +-{y_m:g} m", highlight=False)
