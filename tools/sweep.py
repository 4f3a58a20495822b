"""`heal sweep`: AP against bytes, delay or loss of messages, errors of poses, the size of regions, bad senders; table, figure."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from heal.agents.process import end_with_parent, usable_cores
from heal.alliance import Alliance, load_alliance
from heal.atomic_write import replacing
from heal.detection.metrics import NOT_AVAILABLE, ApResult, ap_text
from heal.errors import UserError
from heal.tools.pictures.margin import write_margin
from heal.tools.shared.arguments import (
    AllianceArg,
    CommRangeArg,
    OverwriteArg,
    PresetArg,
    SettingsArg,
    SettingsFileArg,
    SourceArg,
    SourceSplitArg,
    TypesArg,
)
from heal.tools.shared.intervals import Interval, compare
from heal.tools.shared.made_by import ScenesRecord
from heal.tools.shared.output import SWEEP_NAME, Output, try_folder
from heal.tools.shared.run_settings import read_settings
from heal.tools.shared.sources import TOWN, open_source
from heal.tools.shared.type_argument import base_type
from heal.tools.sweeps.chunk import Chunk, RunTotals, run_chunk
from heal.tools.sweeps.conditions import ALONE, AXES, Condition, sweep_conditions
from heal.tools.terminal.progress import track

TICKS_PER_TOWN = 16
CHUNK_TICKS = 32
EXAMPLES = """\b
heal sweep codec --alliance configs/demo/alliance --towns 12 --ticks 4 --out runs/sweep-codec
heal sweep delay --alliance configs/demo/alliance --towns 8 --ticks 12 --set run.split=pyramid --out runs/sweep-delay
heal sweep loss --alliance configs/demo/alliance --towns 8 --ticks 12 --set run.split=pyramid --out runs/sweep-loss
heal sweep noise --alliance configs/demo/alliance --towns 12 --ticks 4 --set run.split=pyramid --out runs/sweep-noise
heal sweep regions --alliance configs/demo/alliance --towns 12 --ticks 6 --seed 10 --out runs/sweep-regions
heal sweep senders --alliance configs/demo/alliance --towns 25 --ticks 4 --set run.split=pyramid --out runs/sweep-senders
heal sweep codec --alliance runs/dair-base/alliance --source DAIR_ROOT --comm-range-m 100 --out runs/sweep-dair
"""
console = Console()

KindArg = Annotated[str, typer.Argument(help="Condition to vary: codec, delay, loss, noise, regions or senders.")]
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
ProcessesArg = Annotated[int, typer.Option(min=0, help="Number of processes, each with one thread; 0 for one per usable core.")]


@dataclass(frozen=True)
class SweepRow:
    """The result of one run of a sweep.

    Attributes:
        series: label of the line in the figure that the run is a point of.
        x: position of the point on the x axis.
        name: label of the run in the table.
        ap: AP at IoU 0.3, 0.5 and 0.7, by threshold; None if there is no object.
        ready_ap: the same at the instants at which the results are ready; see `heal.tools.shared.ready_score`.
        age_ms: mean age in their tick of the fused maps that had come over a link; None if there were none.
        ready_age_ms: mean age of the same maps when the results are ready.
        bytes_per_message: mean size of a message over a link.
        used: share of these messages that the fusion node used in their own tick.
        held: number of older maps used in place of missing ones, per message.
        frames: number of evaluated ticks.
        ready_frames: number of ticks that are evaluated in `ready_ap`, which leaves out the last ones of each recording.
        guard: what became of the ego's confident boxes, as in metrics.json; None if no tick had the ego's map.
        minus_alone: AP minus that of the ego alone with 90% intervals, as in metrics.json; None if the runs have other objects.
    """

    series: str
    x: float
    name: str
    ap: dict[str, float | None]
    ready_ap: dict[str, float | None]
    age_ms: float | None
    ready_age_ms: float | None
    bytes_per_message: float
    used: float
    held: float
    frames: int
    ready_frames: int
    guard: dict[str, Any] | None = None
    minus_alone: dict[str, Any] | None = None


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
    types: TypesArg = None,
    comm_range_m: CommRangeArg = 70.0,
    processes: ProcessesArg = 0,
    settings_file: SettingsFileArg = None,
    changes: SettingsArg = [],  # noqa: B006 - typer takes a copy
) -> None:
    """Measure AP against one condition of a run.

    Every value of the condition (codec, delay or loss of the messages, error of the poses, size of the regions, senders that are
    blind, noisy or misplaced, or whose maps are 10 or 100 times too large) is one run over the same ticks; another run has the ego
    alone.
    """
    opened = load_alliance(alliance)
    output = Output.of(context, out, overwrite, opened, ScenesRecord.of(source, preset, split, types or base_type(opened), seed))
    settings = read_settings(settings_file, [f"run.comm_range_m={comm_range_m}", *changes])
    conditions = sweep_conditions(kind, settings.run, float32_bytes(opened), opened.compressors)
    parts = divide(source, preset, split, towns, ticks, seed)
    chunks = [Chunk(alliance, source, preset, split, part_seed, part, types) for part_seed, part in parts]
    try_folder(out)
    totals = run_chunks(chunks, conditions, processes or usable_cores())
    rows = [make_row(condition, total, totals[0]) for condition, total in zip(conditions, totals, strict=True)]
    console.print(sweep_table(rows, kind))
    output.start(settings)
    results = {"kind": kind, "source": source, "run": str(settings.run), "rows": [asdict(row) for row in rows]}
    output.write_results(results, SWEEP_NAME)
    draw_sweep(rows, kind, f"{source}, {rows[0].frames} ticks", out / "sweep.png", output.made_by.margin)
    console.print(f"numbers: {out / SWEEP_NAME}   figure: {out / 'sweep.png'}")


def divide(source: str, preset: str, split: str | None, towns: int, ticks: int | None, seed: int) -> list[tuple[int, range]]:
    """Return seed and ticks of every chunk: one chunk for each town, or for every `CHUNK_TICKS` scenes of a folder."""
    if source == TOWN:
        return [(seed + i, range(ticks or TICKS_PER_TOWN)) for i in range(towns)]
    scenes = range(len(open_source(source, preset, split, ticks, seed)))[:ticks]
    return [(seed, scenes[i : i + CHUNK_TICKS]) for i in range(0, len(scenes), CHUNK_TICKS)]


def float32_bytes(alliance: Alliance) -> int:
    """Return the size of an alliance's feature map in float32, without a header."""
    base = alliance.base.config
    return 4 * base.in_channels * base.grid.ny * base.grid.nx


def run_chunks(chunks: Sequence[Chunk], conditions: Sequence[Condition], processes: int) -> list[RunTotals]:
    """Run all chunks in several processes; return the totals of each condition, which do not depend on the number of processes."""
    totals = [RunTotals() for _ in conditions]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(chunks)), mp_context=context, initializer=end_with_parent) as pool:
        finished = pool.map(partial(run_chunk, conditions=conditions), chunks)
        try:
            for parts in track(finished, f"{len(conditions)} runs over each town or part", len(chunks), console):
                for total, part in zip(totals, parts, strict=True):
                    total.merge(part)
        except BaseException:
            _end_processes(pool)
            raise
    return totals


def _end_processes(pool: ProcessPoolExecutor) -> None:
    """End the processes of a pool at once: without the other chunks, a chunk is of no use."""
    for child in multiprocessing.active_children():
        child.terminate()
    pool.shutdown(cancel_futures=True)


def make_row(condition: Condition, total: RunTotals, alone: RunTotals) -> SweepRow:
    """Make the row of a run from its totals and those of the ego alone."""
    counts, results, ready = total.counts, total.ap.results(), total.ready.results()
    size = counts.bytes_per_message
    return SweepRow(
        series=condition.series,
        x=size if condition.x is None else condition.x,
        name=condition.name,
        ap=_rounded(results),
        ready_ap=_rounded(ready),
        age_ms=_mean(total.ages_ms),
        ready_age_ms=_mean(total.ready_ages_ms),
        bytes_per_message=round(size),
        used=round(counts.used / max(counts.sent, 1), 4),
        held=round(total.held / max(counts.sent, 1), 4),
        frames=results.frames,
        ready_frames=ready.frames,
        guard=total.guard.metrics(),
        minus_alone=_minus_alone(condition, total, alone),
    )


def _minus_alone(condition: Condition, total: RunTotals, alone: RunTotals) -> dict[str, Any] | None:
    """Return the comparison of a run with the ego alone; None if the runs have other objects, as regions have."""
    try:
        comparison = compare((condition.name, total.matches()), (ALONE, alone.matches()))
    except UserError:
        return None
    differences: dict[str, Any] = comparison.record()["ap"]
    return differences


def _rounded(results: ApResult) -> dict[str, float | None]:
    return {f"{threshold:g}": None if value is None else round(value, 4) for threshold, value in results.ap.items()}


def _mean(ages_ms: Sequence[float]) -> float | None:
    return round(sum(ages_ms) / len(ages_ms), 1) if ages_ms else None


def sweep_table(rows: Sequence[SweepRow], kind: str) -> Table:
    """Make a table with one line for each run."""
    if kind == "senders":
        return _senders_table(rows)
    headings = ("map\nage,\nms", "AP@0.3", "AP@0.5", "AP@0.7", "when\nready", "kB", "used,\nheld")
    table = Table(Column(overflow="fold", min_width=10), *headings, title=f"sweep of {kind}")
    for row in rows:
        age, ap = "-" if row.age_ms is None else f"{row.age_ms:.0f}", [ap_text(value) for value in row.ap.values()]
        ready = " / ".join(ap_text(value) for value in row.ready_ap.values())
        table.add_row(row.name, age, *ap, ready, f"{row.bytes_per_message / 1e3:.1f}", f"{row.used:.0%}, {row.held:.0%}")
    return table


def _senders_table(rows: Sequence[SweepRow]) -> Table:
    """Make a table of spoiled senders: AP, what is gained over the ego alone, and its boxes that were lost without the guard."""
    headings = (*(f"AP@{threshold}" for threshold in rows[0].ap), "AP@0.5 minus\nego alone", "boxes\nlost", "put\nback")
    table = Table(
        Column(overflow="fold", min_width=16),
        *headings,
        title="sweep of senders; in brackets 90% intervals over towns or recordings",
    )
    for row in rows:
        minus, guard = (row.minus_alone or {}).get("0.5"), row.guard or {}
        gained = str(Interval(**minus)) if minus else NOT_AVAILABLE
        lost = f"{guard['lost']} of {guard['confident']}" if guard else NOT_AVAILABLE
        table.add_row(row.name, *map(ap_text, row.ap.values()), gained, lost, str(guard.get("put_back", NOT_AVAILABLE)))
    return table


def draw_sweep(rows: Sequence[SweepRow], kind: str, title: str, path: Path, margin: str = "") -> None:
    """Draw AP at IoU 0.5 and 0.7 against what the sweep varies, with one line for each series, and write the figure as PNG.

    The text `margin` stands below the axes.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.2), dpi=150, layout="constrained")
    for axes, threshold in zip(figure.subplots(1, 2), ("0.5", "0.7"), strict=True):
        _draw_lines(axes, rows, kind, threshold)
        axes.set(xlabel=AXES[kind], ylabel=f"AP@{threshold}", ylim=(0, 1), xscale="log" if kind == "codec" else "linear")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if kind == "senders":
            names = {row.x: row.name.removesuffix(f", {row.series}") for row in rows if row.series != ALONE}
            axes.set_xticks(list(names), list(names.values()), rotation=60, ha="right", fontsize=8)
    axes.legend(loc="lower left", fontsize=9)
    figure.suptitle(title, fontsize=11)
    write_margin(figure, margin)
    with replacing(path) as temporary:
        figure.savefig(temporary)


def _draw_lines(axes: Any, rows: Sequence[SweepRow], kind: str, threshold: str) -> None:
    """Draw AP at one IoU threshold: a line for each series, and a horizontal line for the ego alone; nothing without objects.

    The x axis of delays is the measured age of the fused maps, at the tick and when the results are ready.
    """
    colors = ("#1f6feb", "#d9822b", "#8250df", "#1a7f37")
    names = dict.fromkeys(row.series for row in rows if row.series != ALONE)
    for color, name in zip(colors, names, strict=False):
        own = [row for row in rows if row.series == name]
        places = [row.age_ms if kind == "delay" else row.x for row in own]
        _draw_line(axes, places, [row.ap[threshold] for row in own], label=name, color=color)
        if kind == "delay":
            places, ready = [row.ready_age_ms for row in own], [row.ready_ap[threshold] for row in own]
            _draw_line(axes, places, ready, label=f"{name}, when ready", color=color, linestyle=":", markerfacecolor="white")
    for row in rows:
        if row.series == ALONE and (alone := row.ap[threshold]) is not None:
            axes.axhline(alone, color="#57606a", linestyle="--", linewidth=1.2, label=ALONE)


def _draw_line(axes: Any, places: Sequence[float | None], values: Sequence[float | None], **style: Any) -> None:
    """Draw a line through the points that have a place and a value."""
    points = sorted((x, y) for x, y in zip(places, values, strict=True) if x is not None and y is not None)
    axes.plot([x for x, _ in points], [y for _, y in points], marker="o", markersize=4, **style)
