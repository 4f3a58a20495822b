"""`heal simulate`: run agents, links and a fusion node on the live town or on recorded scenes, and report the results."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from heal.agents.options import RunOptions
from heal.alliance import Alliance, load_alliance
from heal.config import to_plain
from heal.datasets.dataset import Dataset
from heal.tools.report.history import ReportData
from heal.tools.report.page import Report, write_report
from heal.tools.shared.arguments import (
    AgentRangeArg,
    AgentsArg,
    AllianceArg,
    EgoTypeArg,
    GroundTruthArg,
    IncludeEgoArg,
    IntensityScaleArg,
    OnDamageArg,
    OverwriteArg,
    RuntimeArg,
    SettingsArg,
    SettingsFileArg,
    SourceArg,
    SourceSplitArg,
    TypesArg,
    UseZArg,
)
from heal.tools.shared.lines import require_lines
from heal.tools.shared.made_by import ScenesRecord
from heal.tools.shared.output import Output, WriteErrors, try_folder
from heal.tools.shared.preset_option import PresetArg
from heal.tools.shared.run_settings import RunSettings, read_settings, with_options, with_own_device
from heal.tools.shared.sources import TOWN, TOWN_TICKS, ReadOptions, choose_scenes, open_source, sensors_of
from heal.tools.shared.type_argument import base_type, parse_types, split_names, with_egos
from heal.tools.simulation.join_notes import JoinNotes
from heal.tools.simulation.plan import Plan, RunScenes, check
from heal.tools.simulation.run import Pace, run_plan
from heal.tools.simulation.summary import files_text, print_summary, require_all_agents, write_metrics
from heal.tools.viewer.viewer import open_viewer
from heal.types import SceneSource

EXAMPLES = """\b
heal simulate --alliance configs/demo/alliance --source town --ticks 40 --seed 3 --out runs/drive
heal simulate --alliance configs/demo/alliance --link dsrc --codec int8,zstd --set run.adapt=true --out runs/narrow
heal simulate --alliance configs/demo/alliance --link delay:80,jitter:40,loss:0.1 --view web --out runs/bad-links
heal simulate --alliance runs/dair-base/alliance --source DAIR_ROOT --out runs/replay --realtime
heal simulate --alliance configs/demo/alliance --ticks 40 --join m5@20:-1 --out runs/joining
heal simulate --alliance configs/demo/alliance --ticks 300 --realtime --agents 1 --door tcp/127.0.0.1:7447 --out runs/door
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
DeviceArg = Annotated[
    str | None,
    typer.Option(
        help="Device of the networks, which all processes share: cpu, cuda, cuda:1 and so on, or auto (the default): a GPU if "
        "there is one. To use several GPUs see docs/cluster.md."
    ),
]
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
DoorArg = Annotated[
    str | None,
    typer.Option(
        help="Let agents of other processes take part (`heal agent`), which send to this endpoint, such as tcp/127.0.0.1:7447; see "
        "docs/door.md."
    ),
]


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
    ego_type: EgoTypeArg = None,
    deadline_ms: DeadlineArg = None,
    comm_range_m: AgentRangeArg = None,
    include_ego: IncludeEgoArg = False,
    use_z: UseZArg = None,
    ground_truth: GroundTruthArg = "joint",
    realtime: RealtimeArg = False,
    rate_hz: RateArg = None,
    pictures: PicturesArg = False,
    view: ViewArg = None,
    record: RecordArg = None,
    device: DeviceArg = None,
    address: AddressArg = None,
    fault: FaultArg = None,
    join: JoinArg = None,
    door: DoorArg = None,
    on_damage: OnDamageArg = "stop",
    intensity_scale: IntensityScaleArg = None,
    settings_file: SettingsFileArg = None,
    changes: SettingsArg = [],  # noqa: B006 - typer takes a copy
) -> None:
    """Run a simulation: agents send feature maps over links, and a fusion node detects vehicles with those that arrive in time."""
    simulate_as_asked(context, out, overwrite, with_options(read_settings(settings_file, changes), context.params))


@dataclass(frozen=True)
class Asked:
    """What the command line asks for, besides the settings of the run and of reading; each attribute is the option of this name."""

    alliance: Path
    source: str
    preset: str
    split: str | None
    ticks: int | None
    seed: int
    types: str | None
    ego_type: str | None
    runtime: str
    pictures: bool
    view: str | None
    record: Path | None

    @staticmethod
    def of(given: Mapping[str, Any]) -> Asked:
        """Take the options of a command line by name, in which paths are texts."""
        paths = {name: given[name] and Path(given[name]) for name in ("alliance", "record")}
        return Asked(**{**{part.name: given[part.name] for part in fields(Asked)}, **paths})


def simulate_as_asked(context: typer.Context, out: Path, overwrite: bool, settings: RunSettings) -> None:
    """Open everything that a command line asks for, and run it with an output in the folder `out`."""
    asked, settings = Asked.of(context.params), with_own_device(settings)
    opened = load_alliance(asked.alliance).for_inference()
    reading = replace(ReadOptions.of_command(context.params), classes=opened.base.config.object_classes)
    types, seed = asked.types or base_type(opened), asked.seed
    recorded = ScenesRecord.of(asked.source, asked.preset, asked.split, types, seed, asked.ego_type)
    output = Output.of(context, out, overwrite, opened, recorded)
    source = open_source(asked.source, asked.preset, asked.split, asked.ticks, seed, reading)
    scenes = choose_scenes_of_run(source, asked.ticks, recorded, opened, settings.run, reading)
    with open_viewer(asked.view, asked.record, opened.grid.range_m, f"{asked.source}, seed {seed}") as viewer:
        run_and_report(Plan(opened, scenes, settings, output, seed, asked.runtime, asked.pictures, viewer))


def choose_scenes_of_run(
    source: SceneSource, count: int | None, recorded: ScenesRecord, alliance: Alliance, options: RunOptions, reading: ReadOptions
) -> RunScenes:
    """Return the scenes of a run, at most `count`, with the agent types and the egos of the command line.

    Scenes of a data set that cannot be read are not among them.
    """
    require_lines(options.lidar_lines, alliance, source)
    egos, ticks = split_names(recorded.ego_type), range(min(count or len(source), len(source)))
    types_of = parse_types(recorded.types, alliance, source, egos)
    scenes = with_egos(source, types_of, egos)
    if not isinstance(source, Dataset):
        return RunScenes(scenes, ticks, types_of, {})
    readable, summary = choose_scenes(source, ticks, sensors_of(alliance, types_of, options), reading.on_damage)
    return RunScenes(scenes, readable, types_of, summary.record())


def run_and_report(plan: Plan) -> None:
    """Run a simulation, write all files, print a summary, and wait until the viewer can be closed.

    After an error or Ctrl-C the files and the summary cover the ticks that were run, and the exception is raised again.
    """
    check(plan)
    if plan.viewer.address:
        console.print(f"watch: {plan.viewer.address}", soft_wrap=True)
    settings, log, out = plan.settings, plan.empty_log(), plan.output.folder
    try_folder(out)
    data, errors = ReportData(), WriteErrors()
    pace, notes = Pace(), JoinNotes(settings.run.joins, console)
    try:
        run_plan(plan, [log, data, plan.viewer, notes], pace, console)
    finally:
        notes.finish()
        if log.score.frames:
            title = f"{plan.output.made_by.scenes.source}, {log.clock.of_ticks_text}"
            print_summary(console, log, f"{title} at {pace.rate_hz:.1f} Hz, link {settings.link}", settings.run)
            with errors.kept():
                write_metrics(plan, log, pace.rate_hz)
            with errors.kept():
                report = Report(title, plan.output.made_by, log, data, to_plain(settings), out / "last_tick.png")
                write_report(out / "report.html", report)
            console.print(f"not written: {errors}" if str(errors) else files_text(out), soft_wrap=True, highlight=False)
    errors.raise_first()
    if plan.viewer.address:
        logging.getLogger(__name__).info("serving %s until Ctrl-C", plan.viewer.address)
    plan.viewer.wait()
    require_all_agents(console, log)
