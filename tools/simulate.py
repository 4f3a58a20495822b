"""`heal simulate`: agents, links and a fusion node, on the live town or on recorded scenes; counts everything that happens."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer
from rich.console import Console
from rich.progress import track

from heal.agent_types import TypesOf
from heal.agents.network.spec import LinkSpec
from heal.agents.on_ray.prometheus import metrics_address
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.agents.runtime import Runtime, open_runtime
from heal.alliance import Alliance, load_alliance
from heal.config import save_config, to_plain
from heal.datasets.dair.index import data_folder
from heal.datasets.noise import SensorNoise
from heal.datasets.open import open_dataset
from heal.tools.pictures.draw import draw_frame, draw_tick, save_animation
from heal.tools.report.history import ReportData
from heal.tools.report.page import Report, write_report
from heal.tools.shared.arguments import AgentsArg, AllianceArg, EgoArg, TypesArg
from heal.tools.shared.run_log import ALLOWED_LAG_MS, RunLog, tick_line
from heal.tools.shared.run_settings import RunSettings, read_settings, with_flags
from heal.tools.shared.scoring import RunScore, score_table, spread, write_metrics
from heal.tools.shared.type_argument import parse_types
from heal.tools.viewer.viewer import RunViewer, open_viewer
from heal.types import SceneSource

ANIMATION_FRAMES = 24
TOWN_TICKS = 40
console = Console()

OutArg = Annotated[Path, typer.Option(help="Folder for metrics.json, ticks.jsonl, report.html and pictures.")]
SourceArg = Annotated[str, typer.Option(help="town, or a folder of scenes: OPV2V layout or DAIR-V2X-C.")]
PresetArg = Annotated[str, typer.Option(help="Kind of town.")]
SplitArg = Annotated[str | None, typer.Option(help="Split of the source; by default test, for DAIR-V2X-C val.")]
TicksArg = Annotated[int | None, typer.Option(min=1, help=f"Ticks to run; by default {TOWN_TICKS} of a town, all of a folder.")]
SeedArg = Annotated[int, typer.Option(min=0, help="Of the town, of the links and of the noise.")]
RuntimeArg = Annotated[str, typer.Option(help="ray: agents and fusion node as actors; local: all in this process.")]
LinkArg = Annotated[str | None, typer.Option(help="perfect, dsrc, delay:MS, loss:SHARE and more, by commas; see docs/links.md.")]
NoiseArg = Annotated[str | None, typer.Option(help="What poses and clocks are off by: position:M,rotation:DEG,clock:MS.")]
CodecArg = Annotated[str | None, typer.Option(help="float32, float16, int8, int4; score:MIN, budget:BYTES, zstd, by commas.")]
LateArg = Annotated[str | None, typer.Option(help="What becomes of late maps: drop, hold or weigh (the default).")]
DeadlineArg = Annotated[float | None, typer.Option(min=0, help="The fusion node fuses what has come by then; 100 by default.")]
AgentRangeArg = Annotated[float | None, typer.Option(min=0, help="Agents further than this take no part; 70 by default.")]
RealtimeArg = Annotated[bool, typer.Option("--realtime", help="Run by the wall clock.")]
PicturesArg = Annotated[bool, typer.Option("--pictures", help="Draw every tick, not only the last one and an animation.")]
ViewArg = Annotated[str | None, typer.Option(help="Watch it in 3D: native opens rerun's viewer, web serves it to a browser.")]
RecordArg = Annotated[Path | None, typer.Option(help="Write the 3D view to this .rrd file, to be played back later.")]
AddressArg = Annotated[str | None, typer.Option(help="Of a Ray cluster to run on, such as auto; see docs/cluster.md.")]
FaultArg = Annotated[str | None, typer.Option(help="Break something: crash:AGENT@TICK or hang:AGENT@TICK, AGENT may be node.")]
ConfigArg = Annotated[Path | None, typer.Option(help="YAML file with settings; a run writes its own to run.yaml.")]
SetArg = Annotated[list[str], typer.Option("--set", help="Any setting, such as run.split=pyramid or deployment.placement=spread.")]

EXAMPLES = """
heal simulate --alliance configs/demo/alliance --source town --ticks 40 --seed 3 --out runs/drive

heal simulate --alliance configs/demo/alliance --link dsrc --codec int8,zstd --set run.adapt=true --out runs/narrow

heal simulate --alliance configs/demo/alliance --link delay:80,jitter:40,loss:0.1 --view web --out runs/bad-links

heal simulate --alliance runs/dair-base/alliance --source DAIR_ROOT --out runs/replay --realtime
"""


@dataclass(frozen=True)
class Plan:
    """All of a simulation.

    Attributes:
        alliance: the networks.
        source: the scenes.
        ticks: which of them.
        types_of: the agents of a scene and their types.
        settings: how they run.
        seed: of links and noise.
        runtime: where it computes.
        pictures: draw every tick.
        viewer: whoever looks on.
    """

    alliance: Alliance
    source: SceneSource
    ticks: range
    types_of: TypesOf
    settings: RunSettings
    seed: int
    runtime: str
    pictures: bool
    viewer: RunViewer


def simulate(
    alliance: AllianceArg,
    out: OutArg,
    source: SourceArg = "town",
    preset: PresetArg = "demo",
    split: SplitArg = None,
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
    include_ego: EgoArg = False,
    realtime: RealtimeArg = False,
    pictures: PicturesArg = False,
    view: ViewArg = None,
    record: RecordArg = None,
    address: AddressArg = None,
    fault: FaultArg = None,
    config: ConfigArg = None,
    change: SetArg = [],  # noqa: B006 - typer takes a copy
) -> None:
    """Let every agent sense, encode and send, and a fusion node detect from what arrives in time."""
    opened, scenes = load_alliance(alliance).for_inference(), open_source(source, preset, split, ticks, seed)
    words = {"link": link, "noise": noise, "codec": codec, "late": late, "address": address, "fault": fault}
    numbers = {"agents": agents, "deadline_ms": deadline_ms, "comm_range_m": comm_range_m}
    settings = with_flags(read_settings(config, change), words, numbers, include_ego, realtime)
    chosen = range(min(ticks or len(scenes), len(scenes)))
    with open_viewer(view, record, opened.grid.range_m, f"{source}, seed {seed}") as viewer:
        if viewer.address:
            console.print(f"watch: {viewer.address}", soft_wrap=True)
        plan = Plan(opened, scenes, chosen, parse_types(types, opened, scenes), settings, seed, runtime, pictures, viewer)
        run_and_report(plan, f"{source}, {len(chosen)} ticks", out)
        viewer.wait()


def open_source(source: str, preset: str, split: str | None, ticks: int | None, seed: int) -> SceneSource:
    """The town, or what lies in a folder."""
    if source == "town":
        from heal.datasets.town.source import TownSource

        return TownSource(preset, seed, ticks or TOWN_TICKS, split=split or "test")
    root = Path(source)
    dataset = open_dataset(root, split or ("test" if data_folder(root) is None else "val"))
    console.print(str(dataset.summary))
    return dataset


def run_and_report(plan: Plan, title: str, out: Path) -> None:
    """Run, write everything, print what happened; interrupted by Ctrl-C, do so for the ticks that were run, then pass it on."""
    settings, log = plan.settings, RunLog(RunScore(plan.alliance.grid.range_m))
    out.mkdir(parents=True, exist_ok=True)
    save_config(settings, out / "run.yaml")
    data = ReportData()
    pace = Pace()
    try:
        run_plan(plan, [log, data, pace, plan.viewer], out)
    finally:
        if log.score.frames:
            _write_numbers(plan, log, pace.rate_hz, out)
            write_report(out / "report.html", Report(title, log, data, to_plain(settings), out / "last_tick.png"))
            report(log, f"{title} at {pace.rate_hz:.1f} Hz, link {settings.link}", settings.run.realtime, out)


class Listener(Protocol):
    """What is told of every tick."""

    def add(self, result: TickResult) -> None:
        """A tick has been run."""
        ...


@dataclass
class Pace:
    """Counts ticks per second, from the end of the first one on: before it networks are loaded and towns are built."""

    ticks: int = 0
    first_s: float = 0.0
    last_s: float = 0.0

    def add(self, result: TickResult) -> None:
        """A tick is done."""
        self.last_s = time.monotonic()
        self.first_s = self.first_s if self.ticks else self.last_s
        self.ticks += 1

    @property
    def rate_hz(self) -> float:
        """Ticks per second."""
        return (self.ticks - 1) / max(self.last_s - self.first_s, 1e-9)


def run_plan(plan: Plan, listeners: Sequence[Listener], out: Path) -> None:
    """Run all ticks, tell of them, write ticks.jsonl and the pictures."""
    animated = frozenset(spread(plan.ticks, ANIMATION_FRAMES)) | {plan.ticks[-1]}
    everything = plan.pictures or plan.viewer.wants_views
    options = replace(plan.settings.run, keep_views=True if everything else animated)
    shown, range_m = [], plan.alliance.grid.range_m
    try:
        with open_run(plan, options) as runtime, (out / "ticks.jsonl").open("w", buffering=1, encoding="utf-8") as lines:
            if plan.settings.deployment.collects_metrics and (address := metrics_address()):
                console.print(f"metrics: {address}", soft_wrap=True)
            for result in track(runtime.run(plan.ticks), "simulating", total=len(plan.ticks), console=console):
                for listener in listeners:
                    listener.add(result)
                lines.write(json.dumps(tick_line(result)) + "\n")
                if plan.pictures:
                    draw_tick(result, range_m, out / "pictures" / f"tick_{result.tick:06d}.png")
                if result.tick in animated:
                    shown.append(result)
    finally:
        if shown:
            draw_tick(shown[-1], range_m, out / "last_tick.png")
    save_animation([draw_frame(result, range_m) for result in track(shown, "drawing", console=console)], out / "run.gif")


def open_run(plan: Plan, options: RunOptions) -> Runtime:
    """The runtime of a plan, with its network and its noise."""
    settings = plan.settings
    source = SensorNoise.parse(settings.noise).around(plan.source, plan.seed)
    network = LinkSpec.parse(settings.link).network(plan.seed)
    return open_runtime(plan.runtime, plan.alliance, source, plan.types_of, network, options, settings.deployment)


def _write_numbers(plan: Plan, log: RunLog, rate_hz: float, out: Path) -> None:
    """metrics.json."""
    settings = plan.settings
    told = {"runtime": plan.runtime, "link": settings.link, "codec": str(settings.run.codec), "split": settings.run.split}
    numbers = {"seed": plan.seed, "ticks_per_second": round(rate_hz, 2)}
    write_metrics(out / "metrics.json", {**log.metrics(), **told, **numbers, **_pace(log, settings.run.realtime)})


def report(log: RunLog, title: str, realtime: bool, out: Path) -> None:
    """Print what happened."""
    agents = log.score.agents
    console.print(score_table({f"{agents} agents" if agents > 1 else "ego alone": log.score}, title))
    console.print(log.table())
    if realtime:
        words = "kept up" if log.lag_ms <= ALLOWED_LAG_MS else "did not keep up"
        console.print(f"wall clock: {words}; the latest tick began {log.lag_ms:.0f} ms after its time")
    console.print(
        f"report: {out / 'report.html'}   numbers: {out / 'metrics.json'}, {out / 'ticks.jsonl'}   animation: {out / 'run.gif'}"
    )


def _pace(log: RunLog, realtime: bool) -> dict[str, Any]:
    return {"realtime": {"kept_up": log.lag_ms <= ALLOWED_LAG_MS, "max_lag_ms": round(log.lag_ms, 1)}} if realtime else {}
