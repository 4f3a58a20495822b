"""`heal simulate`: run agents, links and a fusion node on the live town or on recorded scenes, and report the results."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Protocol, TextIO

import typer
from rich.console import Console

from heal.agent_types import TypesOf
from heal.agents.deployment import GIVEN_UP
from heal.agents.joining import require_joins
from heal.agents.network.spec import LinkSpec
from heal.agents.on_ray.prometheus import metrics_address
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.agents.runtime import Runtime, open_runtime
from heal.alliance import Alliance, load_alliance
from heal.config import to_plain
from heal.datasets.dataset import Dataset, OnDamage
from heal.datasets.noise import SensorNoise
from heal.errors import naming_errors_after
from heal.tools.checks.fit import DataFit
from heal.tools.checks.planned_faults import require_targets
from heal.tools.pictures.draw import draw_frame, draw_tick, save_animation
from heal.tools.report.history import ReportData
from heal.tools.report.page import Report, write_report
from heal.tools.shared.arguments import (
    AgentsArg,
    AllianceArg,
    IncludeEgoArg,
    IntensityScaleArg,
    OnDamageArg,
    OverwriteArg,
    PresetArg,
    RuntimeArg,
    SettingsArg,
    SettingsFileArg,
    SourceArg,
    SourceSplitArg,
    TypesArg,
)
from heal.tools.shared.join_notes import JoinNotes
from heal.tools.shared.made_by import ScenesRecord
from heal.tools.shared.output import TICKS_NAME, Output, WriteErrors, try_folder
from heal.tools.shared.run_log import RunLog, tick_line
from heal.tools.shared.run_settings import RunSettings, read_settings, with_options
from heal.tools.shared.scoring import score_table, spread_evenly
from heal.tools.shared.sources import TOWN, TOWN_TICKS, ReadOptions, choose_scenes, open_source, sensors_of
from heal.tools.shared.type_argument import base_type, parse_types
from heal.tools.terminal.progress import progress_bar, track
from heal.tools.viewer.viewer import RunViewer, open_viewer
from heal.types import SceneSource

ANIMATION_FRAMES = 24
EXAMPLES = """\b
heal simulate --alliance configs/demo/alliance --source town --ticks 40 --seed 3 --out runs/drive
heal simulate --alliance configs/demo/alliance --link dsrc --codec int8,zstd --set run.adapt=true --out runs/narrow
heal simulate --alliance configs/demo/alliance --link delay:80,jitter:40,loss:0.1 --view web --out runs/bad-links
heal simulate --alliance runs/dair-base/alliance --source DAIR_ROOT --out runs/replay --realtime
heal simulate --alliance configs/demo/alliance --ticks 40 --join m5@20:-1 --out runs/joining
"""
console = Console()

OutArg = Annotated[Path, typer.Option(help="Folder for run.yaml, metrics.json, ticks.jsonl, report.html and pictures.")]
TicksArg = Annotated[
    int | None, typer.Option(min=1, help=f"Number of ticks to run. Default: {TOWN_TICKS} in the town, all scenes of a folder.")
]
SeedArg = Annotated[int, typer.Option(min=0, help="Seed of the town, the links and the noise.")]
LinkArg = Annotated[
    str | None,
    typer.Option(
        help="Links: perfect (the default); or dsrc, delay:MS, loss:SHARE and more, separated by commas; see docs/links.md."
    ),
]
NoiseArg = Annotated[
    str | None,
    typer.Option(help="Errors of poses and clocks: position:M, rotation:DEG, clock:MS, separated by commas; see docs/links.md."),
]
CodecArg = Annotated[
    str | None,
    typer.Option(
        help="Encoding of messages: float32 (the default), float16, int8 or int4; also score:MIN, budget:BYTES, zstd, separated by "
        "commas; see docs/message.md."
    ),
]
LateArg = Annotated[
    str | None, typer.Option(help="Use of late feature maps: drop, hold or weigh (the default); see docs/runtime.md.")
]
DeadlineArg = Annotated[
    float | None,
    typer.Option(min=0, help="Time in ms from a tick until the fusion node fuses the messages that have arrived. Default: 100."),
]
AgentRangeArg = Annotated[
    float | None,
    typer.Option(min=0, help="Communication range in metres: agents further from the ego take no part. Default: 70."),
]
RealtimeArg = Annotated[bool, typer.Option("--realtime", help="Run by the wall clock instead of in simulated time.")]
RateArg = Annotated[
    float | None,
    typer.Option(
        "--rate",
        min=0.01,
        help="Run by the wall clock, at this number of ticks a second of data at 10 Hz: at 5 everything takes twice as long.",
    ),
]
PicturesArg = Annotated[
    bool, typer.Option("--pictures", help="Draw a picture of every tick, besides the picture of the last tick and the animation.")
]
ViewArg = Annotated[str | None, typer.Option(help="Watch the run in 3D: native opens a window, web serves a page for a browser.")]
RecordArg = Annotated[Path | None, typer.Option(help="Write the 3D view to this .rrd file; `heal view` plays it.")]
AddressArg = Annotated[str | None, typer.Option(help="Address of the Ray cluster to run on, such as auto; see docs/cluster.md.")]
FaultArg = Annotated[
    str | None,
    typer.Option(
        help="Faults to cause: crash:AGENT@TICK or hang:AGENT@TICK, separated by commas. "
        "AGENT is an agent's id, or node for the fusion node."
    ),
]
JoinArg = Annotated[
    str | None,
    typer.Option(
        help="Agents that join during the run: TYPE@TICK[:AGENT], such as m5@100:-1, separated by commas. AGENT is the id of an "
        "agent of the source, which takes no part before the tick; by default, the first agent that takes no part yet. The type "
        "may be added to the alliance during the run."
    ),
]


@dataclass(frozen=True)
class RunScenes:
    """The scenes of a simulation.

    Attributes:
        source: the scenes.
        ticks: indices of the scenes to run.
        types_of: the agents of a scene and their types.
        data: what the reader of a data set chose, noted and left out; empty for the town.
    """

    source: SceneSource
    ticks: Sequence[int]
    types_of: TypesOf
    data: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """Everything that a simulation needs.

    Attributes:
        alliance: the networks.
        scenes: the scenes to run.
        settings: options of the run, deployment, links and noise.
        output: where the results go, and what makes them.
        seed: of links and noise.
        runtime: "ray" or "local".
        pictures: whether to draw every tick.
        viewer: the 3D view.
    """

    alliance: Alliance
    scenes: RunScenes
    settings: RunSettings
    output: Output
    seed: int
    runtime: str
    pictures: bool
    viewer: RunViewer


def simulate(
    context: typer.Context,
    alliance: AllianceArg,
    out: OutArg,
    overwrite: OverwriteArg = False,
    source: SourceArg = TOWN,
    preset: PresetArg = "demo",
    split: SourceSplitArg = None,
    ticks: TicksArg = None,
    seed: SeedArg = 0,
    runtime: RuntimeArg = "ray",
    link: LinkArg = None,
    noise: NoiseArg = None,
    codec: CodecArg = None,
    late: LateArg = None,
    agents: AgentsArg = None,
    types: TypesArg = None,
    deadline_ms: DeadlineArg = None,
    comm_range_m: AgentRangeArg = None,
    include_ego: IncludeEgoArg = False,
    realtime: RealtimeArg = False,
    rate_hz: RateArg = None,
    pictures: PicturesArg = False,
    view: ViewArg = None,
    record: RecordArg = None,
    address: AddressArg = None,
    fault: FaultArg = None,
    join: JoinArg = None,
    on_damage: OnDamageArg = "stop",
    intensity_scale: IntensityScaleArg = None,
    settings_file: SettingsFileArg = None,
    changes: SettingsArg = [],  # noqa: B006 - typer takes a copy
) -> None:
    """Run a simulation: agents send feature maps over links, and a fusion node detects vehicles with those that arrive in time."""
    opened, reading = load_alliance(alliance).for_inference(), ReadOptions.of(on_damage, intensity_scale)
    output = Output.of(context, out, overwrite, opened, ScenesRecord.of(source, preset, split, types or base_type(opened), seed))
    scenes = choose_scenes_of_run(open_source(source, preset, split, ticks, seed, reading), ticks, types, opened, reading.on_damage)
    settings = with_options(read_settings(settings_file, changes), context.params)
    with open_viewer(view, record, opened.grid.range_m, f"{source}, seed {seed}") as viewer:
        run_and_report(Plan(opened, scenes, settings, output, seed, runtime, pictures, viewer))


def choose_scenes_of_run(
    source: SceneSource, count: int | None, types: str | None, alliance: Alliance, on_damage: OnDamage
) -> RunScenes:
    """Return the scenes of a run, at most `count`; those of a data set that cannot be read are not among them."""
    types_of = parse_types(types, alliance, source)
    ticks = range(min(count or len(source), len(source)))
    if not isinstance(source, Dataset):
        return RunScenes(source, ticks, types_of, {})
    readable, summary = choose_scenes(source, ticks, sensors_of(alliance, types_of), on_damage)
    return RunScenes(source, readable, types_of, summary.record())


def run_and_report(plan: Plan) -> None:
    """Run a simulation, write all files, print a summary, and wait until the viewer can be closed.

    After an error or Ctrl-C the files and the summary cover the ticks that were run, and the exception is raised again.
    """
    _check(plan)
    if plan.viewer.address:
        console.print(f"watch: {plan.viewer.address}", soft_wrap=True)
    settings, log, out = plan.settings, RunLog.of(plan.settings.run, plan.alliance.grid.range_m), plan.output.folder
    try_folder(out)
    title = f"{plan.output.made_by.scenes.source}, {len(plan.scenes.ticks)} ticks"
    data, errors = ReportData(), WriteErrors()
    pace, notes = Pace(), JoinNotes(settings.run.joins, console)
    try:
        run_plan(plan, [log, data, pace, plan.viewer, notes])
    finally:
        notes.finish()
        if log.score.frames:
            print_summary(log, f"{title} at {pace.rate_hz:.1f} Hz, link {settings.link}", settings.run)
            with errors.kept():
                _write_metrics(plan, log, pace.rate_hz)
            with errors.kept():
                report = Report(title, plan.output.made_by, log, data, to_plain(settings), out / "last_tick.png")
                write_report(out / "report.html", report)
            console.print(f"not written: {errors}" if str(errors) else _files_text(out), soft_wrap=True, highlight=False)
    errors.raise_first()
    if plan.viewer.address:
        logging.getLogger(__name__).info("serving %s until Ctrl-C", plan.viewer.address)
    plan.viewer.wait()
    require_all_agents(log)


def require_all_agents(log: RunLog) -> None:
    """End the command with status 1 if an agent was given up during the run: its results are those of fewer agents."""
    if lost := log.reasons[f"not sent: {GIVEN_UP}"]:
        console.print(
            f"error: agents were given up, and {lost} of their messages are missing: their processes ended again and again; where "
            "memory is short, raise deployment.agents_per_actor",
            soft_wrap=True,
            highlight=False,
        )
        raise typer.Exit(1)


def _check(plan: Plan) -> None:
    """Refuse planned faults that can hit nothing, and warn where a data set does not fit the alliance; the town fits.

    With regions agents need not be near the ego.
    """
    scenes, settings = plan.scenes, plan.settings
    require_targets(settings.deployment.faults, plan.runtime, scenes.source, scenes.ticks, scenes.types_of)
    if isinstance(scenes.source, Dataset):
        alone = settings.run.agents == 1 or settings.run.region_m is not None
        fit = DataFit(plan.alliance, None if alone else settings.run.comm_range_m)
        fit.warn(scenes.source, scenes.ticks, scenes.types_of)


class TickListener(Protocol):
    """An object that receives every tick of a run."""

    def add(self, result: TickResult) -> None:
        """Receive a tick that has been run."""
        ...


@dataclass
class Pace:
    """The rate of a run, measured from the end of the first tick: networks are loaded and towns are built in the first tick.

    Attributes:
        ticks: number of ticks so far.
        first_s: end of the first tick, by the monotonic clock.
        last_s: end of the last tick.
    """

    ticks: int = 0
    first_s: float = 0.0
    last_s: float = 0.0

    def add(self, result: TickResult) -> None:
        """Count a tick that has just ended."""
        self.last_s = time.monotonic()
        self.first_s = self.first_s if self.ticks else self.last_s
        self.ticks += 1

    @property
    def rate_hz(self) -> float:
        """Ticks per second."""
        return (self.ticks - 1) / max(self.last_s - self.first_s, 1e-9)


def run_plan(plan: Plan, listeners: Sequence[TickListener]) -> None:
    """Run all ticks, hand each to the listeners, and write run.yaml, ticks.jsonl and the pictures."""
    ticks, out, margin = plan.scenes.ticks, plan.output.folder, plan.output.made_by.margin
    animated = frozenset(spread_evenly(ticks, ANIMATION_FRAMES)) | {ticks[-1]}
    all_views = plan.pictures or plan.viewer.wants_views
    options = replace(plan.settings.run, keep_views=True if all_views else animated, count_points=True)
    shown, range_m = [], plan.alliance.grid.range_m
    try:
        with progress_bar("starting", len(ticks), console) as bar, open_run(plan, options) as runtime, _open_ticks(plan) as lines:
            if plan.settings.deployment.collects_metrics and (address := metrics_address()):
                console.print(f"metrics: {address}", soft_wrap=True)
            bar.describe("first tick")  # in it agents load their networks, and towns are built
            for result in runtime.run(ticks):
                bar.describe("simulating")
                bar.advance()
                for listener in listeners:
                    listener.add(result)
                lines.write(json.dumps(tick_line(result)) + "\n")
                if plan.pictures:
                    draw_tick(result, range_m, out / "pictures" / f"tick_{result.tick:06d}.png", margin=margin)
                if result.tick in animated:
                    shown.append(result)
    finally:
        if shown:
            draw_tick(shown[-1], range_m, out / "last_tick.png", margin=margin)
    frames = [draw_frame(result, range_m, margin=margin) for result in track(shown, "drawing", len(shown), console)]
    save_animation(frames, out / "run.gif")


@contextmanager
def _open_ticks(plan: Plan) -> Iterator[TextIO]:
    """Start the output, and open ticks.jsonl, into which each tick is written as soon as it has been run."""
    plan.output.start(plan.settings)
    path = plan.output.folder / TICKS_NAME
    with naming_errors_after(path), path.open("w", buffering=1, encoding="utf-8") as lines:
        yield lines


def open_run(plan: Plan, options: RunOptions) -> Runtime:
    """Open the runtime of a plan, with its links and its noise; UserError if agents cannot join as they are to."""
    settings = plan.settings
    if options.joins:
        first = plan.scenes.source.outline(plan.scenes.ticks[0])
        require_joins(options.joins, first, plan.scenes.types_of(first), options.agents)
    source = SensorNoise.parse(settings.noise).around(plan.scenes.source, plan.seed)
    network = LinkSpec.parse(settings.link).network(plan.seed)
    return open_runtime(plan.runtime, plan.alliance, source, plan.scenes.types_of, network, options, settings.deployment)


def _write_metrics(plan: Plan, log: RunLog, rate_hz: float) -> None:
    """Write metrics.json: the log's metrics and the most important settings."""
    settings = plan.settings
    texts = {"runtime": plan.runtime, "link": settings.link, "codec": str(settings.run.codec), "split": settings.run.split}
    numbers = {"seed": plan.seed, "ticks_per_second": round(rate_hz, 2)}
    extra = {**({"data": plan.scenes.data} if plan.scenes.data else {}), **_realtime_metrics(log, settings.run)}
    plan.output.write_results({**log.metrics(), **texts, **numbers, **extra})


def print_summary(log: RunLog, title: str, options: RunOptions) -> None:
    """Print the score, times, messages and faults of a run."""
    agents = log.score.agents
    console.print(score_table({f"{agents} agents" if agents > 1 else "ego alone": log.score}, title))
    console.print(log.table())
    if options.realtime:
        console.print(log.clock.text(options), soft_wrap=True, highlight=False)


def _files_text(out: Path) -> str:
    """Return the files of a run, for its summary."""
    return f"report: {out / 'report.html'}   numbers: {out / 'metrics.json'}, {out / 'ticks.jsonl'}   animation: {out / 'run.gif'}"


def _realtime_metrics(log: RunLog, options: RunOptions) -> dict[str, Any]:
    """Return whether the run kept up with the wall clock; nothing for a run in simulated time."""
    return {"realtime": log.clock.metrics(options)} if options.realtime else {}
