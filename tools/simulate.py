"""`heal simulate`: agents, links and a fusion node, on the live town or on recorded scenes; counts everything that happens."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from heal.agents.link import LinkFactory, LinkSpec
from heal.agents.records import RunOptions
from heal.agents.runtime import open_runtime
from heal.agents.types_of import TypesOf
from heal.alliance import Alliance, load_alliance
from heal.datasets.dair_index import data_folder
from heal.datasets.open import open_dataset
from heal.tools.arguments import AgentsArg, AllianceArg, CommRangeArg, EgoArg, TypesArg
from heal.tools.assigning import parse_types
from heal.tools.draw import draw_frame, draw_tick, save_animation
from heal.tools.run_log import ALLOWED_LAG_MS, RunLog, tick_line
from heal.tools.scoring import RunScore, score_table, spread, write_metrics
from heal.types import SceneSource

ANIMATION_FRAMES = 24
TOWN_TICKS = 40
console = Console()

OutArg = Annotated[Path, typer.Option(help="Folder for metrics.json, ticks.jsonl and pictures.")]
SourceArg = Annotated[str, typer.Option(help="town, or a folder of scenes: OPV2V layout or DAIR-V2X-C.")]
PresetArg = Annotated[str, typer.Option(help="Kind of town.")]
SplitArg = Annotated[str | None, typer.Option(help="Split of the source; by default test, for DAIR-V2X-C val.")]
TicksArg = Annotated[int | None, typer.Option(min=1, help=f"Ticks to run; by default {TOWN_TICKS} of a town, all of a folder.")]
SeedArg = Annotated[int, typer.Option(min=0, help="Of the town and of the links.")]
RuntimeArg = Annotated[str, typer.Option(help="ray: agents and fusion node as actors; local: all in this process.")]
LinkArg = Annotated[str, typer.Option(help="perfect, or delay:MS, jitter:MS and loss:SHARE, joined by commas.")]
DeadlineArg = Annotated[float, typer.Option(min=0, help="A message that takes longer than this is late and dropped.")]
RealtimeArg = Annotated[bool, typer.Option("--realtime", help="Begin ticks at their own times by the wall clock.")]
PicturesArg = Annotated[bool, typer.Option("--pictures", help="Draw every tick, not only the last one and an animation.")]


@dataclass(frozen=True)
class Plan:
    """All of a simulation.

    Attributes:
        alliance: the networks.
        source: the scenes.
        ticks: which of them.
        types_of: the agents of a scene and their types.
        links: agent id to link.
        options: of the run.
        runtime: where it computes.
        pictures: draw every tick.
    """

    alliance: Alliance
    source: SceneSource
    ticks: range
    types_of: TypesOf
    links: LinkFactory
    options: RunOptions
    runtime: str
    pictures: bool


def simulate(
    alliance: AllianceArg,
    out: OutArg,
    source: SourceArg = "town",
    preset: PresetArg = "demo",
    split: SplitArg = None,
    ticks: TicksArg = None,
    seed: SeedArg = 0,
    runtime: RuntimeArg = "ray",
    link: LinkArg = "perfect",
    agents: AgentsArg = None,
    types: TypesArg = None,
    deadline_ms: DeadlineArg = 100.0,
    comm_range_m: CommRangeArg = 70.0,
    include_ego: EgoArg = False,
    realtime: RealtimeArg = False,
    pictures: PicturesArg = False,
) -> None:
    """Let every agent sense, encode and send, and a fusion node detect from what arrives in time.

    Link times are simulated: equal seeds give equal results, on any runtime. Computing times are measured.

    \b
    heal simulate --alliance configs/demo/alliance --source town --ticks 40 --seed 3 --out runs/drive
    heal simulate --alliance configs/demo/alliance --link delay:80,jitter:40,loss:0.1 --out runs/bad-links
    heal simulate --alliance runs/dair-base/alliance --source DAIR_ROOT --out runs/replay --realtime
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    opened, links = load_alliance(alliance), LinkSpec.parse(link).factory(seed)
    scenes = open_source(source, preset, split, ticks, seed)
    options = RunOptions(agents, comm_range_m, deadline_ms, include_ego=include_ego, realtime=realtime)
    chosen = range(min(ticks or len(scenes), len(scenes)))
    plan = Plan(opened, scenes, chosen, parse_types(types, opened, scenes), links, options, runtime, pictures)
    log, rate_hz = run_plan(plan, out)
    told = {"runtime": runtime, "link": link, "seed": seed, "ticks_per_second": round(rate_hz, 2)}
    write_metrics(out / "metrics.json", {**log.metrics(), **told, **_pace(log, realtime)})
    report(log, f"{source}, {len(chosen)} ticks at {rate_hz:.1f} Hz, link {link}", realtime, out)


def open_source(source: str, preset: str, split: str | None, ticks: int | None, seed: int) -> SceneSource:
    """The town, or what lies in a folder."""
    if source == "town":
        from heal.datasets.town.source import TownSource

        return TownSource(preset, seed, ticks or TOWN_TICKS, split=split or "test")
    root = Path(source)
    dataset = open_dataset(root, split or ("test" if data_folder(root) is None else "val"))
    console.print(str(dataset.summary))
    return dataset


def run_plan(plan: Plan, out: Path) -> tuple[RunLog, float]:
    """Run all ticks, write ticks.jsonl and the pictures; returns what happened, and ticks per second after the first one."""
    animated = frozenset(spread(plan.ticks, ANIMATION_FRAMES)) | {plan.ticks[-1]}
    options = replace(plan.options, keep_points=True if plan.pictures else animated)
    log, shown, range_m = RunLog(RunScore(plan.alliance.grid.range_m)), [], plan.alliance.grid.range_m
    out.mkdir(parents=True, exist_ok=True)
    with (
        open_runtime(plan.runtime, plan.alliance, plan.source, plan.types_of, plan.links, options) as runtime,
        (out / "ticks.jsonl").open("w", encoding="utf-8") as lines,
    ):
        times = []
        for result in track(runtime.run(plan.ticks), "simulating", total=len(plan.ticks), console=console):
            times.append(time.monotonic())
            log.add(result)
            lines.write(json.dumps(tick_line(result)) + "\n")
            if plan.pictures:
                draw_tick(result, range_m, out / "pictures" / f"tick_{result.tick:06d}.png")
            if result.tick in animated:
                shown.append(result)
    draw_tick(shown[-1], range_m, out / "last_tick.png")
    save_animation([draw_frame(result, range_m) for result in track(shown, "drawing", console=console)], out / "run.gif")
    return log, (len(times) - 1) / max(times[-1] - times[0], 1e-9)


def report(log: RunLog, title: str, realtime: bool, out: Path) -> None:
    """Print what happened."""
    agents = log.score.agents
    console.print(score_table({f"{agents} agents" if agents > 1 else "ego alone": log.score}, title))
    console.print(log.table())
    if realtime:
        words = "kept up" if log.lag_ms <= ALLOWED_LAG_MS else "did not keep up"
        console.print(f"wall clock: {words}; the latest tick began {log.lag_ms:.0f} ms after its time")
    console.print(f"numbers: {out / 'metrics.json'}, {out / 'ticks.jsonl'}   pictures: {out / 'last_tick.png'}, {out / 'run.gif'}")


def _pace(log: RunLog, realtime: bool) -> dict[str, Any]:
    return {"realtime": {"kept_up": log.lag_ms <= ALLOWED_LAG_MS, "max_lag_ms": round(log.lag_ms, 1)}} if realtime else {}
