"""`heal sweep`: AP against one condition of a run, such as bytes, delay or loss of messages or errors of poses; table, figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from heal.agents.fusion.host import require_base
from heal.agents.process import usable_cores
from heal.alliance import Alliance
from heal.device import devices_to_share
from heal.tools.checks.ranges import open_on_range
from heal.tools.shared.arguments import (
    AgentRangeArg,
    AgentsArg,
    AllianceArg,
    DeviceArg,
    EgoTypeArg,
    GroundTruthArg,
    IncludeEgoArg,
    LinesArg,
    OverwriteArg,
    RangeArg,
    SettingsArg,
    SettingsFileArg,
    SourceArg,
    SourceSplitArg,
    TypesArg,
    UseZArg,
)
from heal.tools.shared.lines import require_lines
from heal.tools.shared.made_by import ScenesRecord
from heal.tools.shared.output import SWEEP_NAME, Output, try_folder
from heal.tools.shared.preset_option import PresetArg
from heal.tools.shared.processes import in_processes
from heal.tools.shared.run_settings import RunSettings, read_settings, with_options
from heal.tools.shared.sources import TOWN
from heal.tools.shared.type_argument import base_type
from heal.tools.sweeps.chunk import Chunk, RunTotals, run_chunk
from heal.tools.sweeps.conditions import Common, Condition, sweep_conditions
from heal.tools.sweeps.figure import draw_sweep
from heal.tools.sweeps.lies import OLD_TICKS
from heal.tools.sweeps.published import PublishedCurve, published_curves
from heal.tools.sweeps.rows import make_row, sweep_table
from heal.tools.terminal.progress import track
from heal.types import SceneSource

TICKS_PER_TOWN = 16
CHUNK_TICKS = 32
FIRST_TICKS = {"attacks": OLD_TICKS}  # so that liars have something old to send
EXAMPLES = """\b
heal sweep codec --alliance configs/demo/alliance --towns 12 --ticks 4 --out runs/sweep-codec
heal sweep delay --alliance configs/demo/alliance --towns 8 --ticks 12 --set run.split=pyramid --out runs/sweep-delay
heal sweep loss --alliance configs/demo/alliance --towns 8 --ticks 12 --set run.split=pyramid --out runs/sweep-loss
heal sweep noise --alliance configs/demo/alliance --towns 12 --ticks 4 --set run.split=pyramid --out runs/sweep-noise
heal sweep regions --alliance configs/demo/alliance --towns 12 --ticks 6 --seed 10 --out runs/sweep-regions
heal sweep attacks --alliance configs/demo/alliance --agents 4 --towns 20 --ticks 2 --set run.split=pyramid --out runs/attacks
heal sweep range --alliance configs/demo/alliance --towns 12 --ticks 4 --out runs/sweep-range
heal sweep agents --alliance configs/demo/alliance --types m1,m2,m3,m4 --towns 12 --ticks 4 --out runs/sweep-agents
heal sweep lines --alliance configs/demo/alliance --types m1,m3 --towns 12 --ticks 4 --out runs/sweep-lines
heal sweep codec --alliance runs/dair-base/alliance --source DAIR_ROOT --comm-range-m 100 --out runs/sweep-dair
heal sweep noise --alliance runs/opv2v/alliance --source OPV2V_ROOT --types m1,m2,m3,m4 --agents 4 --ego-type m1 \\
    --range-m -102.4 -102.4 -3 102.4 102.4 1 --include-ego --published --out runs/sweep-opv2v
"""
console = Console()

KindArg = Annotated[
    str,
    typer.Argument(
        help="Condition to vary: codec, delay, loss, noise, regions, attacks, range (of communication, up to --comm-range-m), "
        "agents (their number) or lines (of the LiDARs)."
    ),
]
OutArg = Annotated[Path, typer.Option(help="Folder for run.yaml, sweep.json and sweep.png.")]
TownsArg = Annotated[int, typer.Option(min=1, help="Number of towns; their seeds are --seed and the following numbers.")]
TicksArg = Annotated[
    int | None,
    typer.Option(
        min=1,
        help=f"Ticks of 0.1 s in each town (default: {TICKS_PER_TOWN}), or scenes of a folder (default: all).",
    ),
]
SeedArg = Annotated[int, typer.Option(min=0, help="Seed of the first town, its links and its noise.")]
PublishedArg = Annotated[
    bool,
    typer.Option(
        "--published",
        help="Draw the curves of HEAL's paper beside the results of noise or codec; they are of OPV2V-H, and say nothing of "
        "other data.",
    ),
]
ProcessesArg = Annotated[int, typer.Option(min=0, help="Number of processes, each with one thread; 0 for one per usable core.")]


def sweep(
    context: typer.Context,
    kind: KindArg,
    alliance: AllianceArg,
    out: OutArg,
    overwrite: OverwriteArg = False,
    source: SourceArg = TOWN,
    preset: PresetArg = "demo",
    split: SourceSplitArg = None,
    towns: TownsArg = 8,
    ticks: TicksArg = None,
    seed: SeedArg = 1,
    agents: AgentsArg = None,
    types: TypesArg = None,
    ego_type: EgoTypeArg = None,
    comm_range_m: AgentRangeArg = None,
    range_m: RangeArg = None,
    use_z: UseZArg = None,
    ground_truth: GroundTruthArg = "joint",
    include_ego: IncludeEgoArg = False,
    lines: LinesArg = None,
    published: PublishedArg = False,
    device: DeviceArg = "auto",
    processes: ProcessesArg = 0,
    settings_file: SettingsFileArg = None,
    changes: SettingsArg = [],  # noqa: B006 - typer takes a copy
) -> None:
    """Measure AP against one condition of a run.

    Every value of the condition (codec, delay or loss of the messages, error of the poses, size of the regions, lies of senders,
    range of communication, number of agents, laser lines) is one run over the same ticks; another run has the ego alone.
    """
    devices = devices_to_share(device)
    whole = Chunk(alliance, source, preset, split, seed, range(0), types, range_m, ego_type, ground_truth)
    settings, opened = with_options(read_settings(settings_file, changes), context.params), open_on_range(alliance, range_m)
    recorded = ScenesRecord.of(source, preset, split, types or base_type(opened), seed, ego_type)
    output, scenes = Output.of(context, out, overwrite, opened, recorded), whole.open_source(ticks)
    chunks = share(divide(whole, len(scenes), towns, ticks, FIRST_TICKS.get(kind, 0)), devices)
    plan = plan_sweep(kind, opened, scenes, settings, chunks, published)
    run_and_report(plan, output, processes or usable_cores())


@dataclass(frozen=True)
class SweepPlan:
    """Everything that a sweep needs.

    Attributes:
        kind: the condition that it varies.
        settings: of the runs, as far as the sweep does not vary them.
        conditions: of the runs, first that of the ego alone.
        chunks: the parts that are run apart.
        curves: published curves to draw beside the results.
    """

    kind: str
    settings: RunSettings
    conditions: Sequence[Condition]
    chunks: Sequence[Chunk]
    curves: Sequence[PublishedCurve]


def plan_sweep(
    kind: str, alliance: Alliance, scenes: SceneSource, settings: RunSettings, chunks: Sequence[Chunk], published: bool
) -> SweepPlan:
    """Choose the conditions of a sweep.

    Args:
        kind: the condition to vary.
        alliance: the networks.
        scenes: all scenes, of the town those of the first one.
        settings: of the runs.
        chunks: the parts of the scenes.
        published: whether to draw the paper's curves.

    Raises:
        UserError: an unknown kind, nothing to vary, laser lines that types or scenes do not have, no published curves, or a base
            that cannot fuse several agents.
    """
    common = Common.of(alliance, settings.run, chunks[0].types)
    conditions = sweep_conditions(kind, common)
    curves = published_curves(kind, common.float32_bytes) if published else ()
    for condition in conditions:
        require_base(alliance.base, condition.options)
        require_lines(condition.options.lidar_lines, alliance, scenes)
    return SweepPlan(kind, settings, conditions, chunks, curves)


def divide(whole: Chunk, scenes: int, towns: int, ticks: int | None, first: int = 0) -> list[Chunk]:
    """Return one chunk for each town, or for every `CHUNK_TICKS` scenes of a folder.

    Args:
        whole: everything but the seeds and the ticks.
        scenes: number of scenes of the folder.
        towns: number of towns.
        ticks: of each town, or scenes of the folder to run; None for `TICKS_PER_TOWN` or all scenes.
        first: the first tick of each town.
    """
    if whole.source == TOWN:
        return [replace(whole, seed=whole.seed + i, ticks=range(first, first + (ticks or TICKS_PER_TOWN))) for i in range(towns)]
    chosen = range(scenes)[:ticks]
    return [replace(whole, ticks=chosen[i : i + CHUNK_TICKS]) for i in range(0, len(chosen), CHUNK_TICKS)]


def share(chunks: Sequence[Chunk], devices: Sequence[str]) -> list[Chunk]:
    """Return chunks whose networks run on the devices in turn."""
    return [replace(chunk, device=device) for chunk, device in zip(chunks, cycle(devices), strict=False)]


def run_and_report(plan: SweepPlan, output: Output, processes: int) -> None:
    """Run a sweep, print its table, and write its files."""
    try_folder(output.folder)
    totals = run_chunks(plan.chunks, plan.conditions, processes)
    rows = [make_row(condition, total, totals[0]) for condition, total in zip(plan.conditions, totals, strict=True)]
    console.print(sweep_table(rows, plan.kind))
    output.start(plan.settings)
    source = plan.chunks[0].source
    results = {"kind": plan.kind, "source": source, "run": str(plan.settings.run), "rows": [asdict(row) for row in rows]}
    output.write_results(results, SWEEP_NAME)
    figure, title = output.folder / "sweep.png", f"{source}, {rows[0].frames} ticks"
    draw_sweep(rows, plan.kind, title, figure, output.made_by.margin, plan.curves)
    console.print(f"numbers: {output.folder / SWEEP_NAME}   figure: {figure}")


def run_chunks(chunks: Sequence[Chunk], conditions: Sequence[Condition], processes: int) -> list[RunTotals]:
    """Run all chunks in several processes; return the totals of each condition, which do not depend on the number of processes."""
    totals = [RunTotals() for _ in conditions]
    finished = in_processes(partial(run_chunk, conditions=conditions), chunks, processes)
    for parts in track(finished, f"{len(conditions)} runs over each town or part", len(chunks), console):
        for total, part in zip(totals, parts, strict=True):
            total.merge(part)
    return totals
