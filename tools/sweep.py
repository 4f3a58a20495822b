"""`heal sweep`: AP against the bytes of a message, its delay, its loss, the error of poses; a table and a figure."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from heal.alliance import load_alliance
from heal.tools.shared.arguments import AllianceArg, CommRangeArg, TypesArg
from heal.tools.shared.run_settings import read_settings
from heal.tools.shared.scoring import write_metrics
from heal.tools.simulate import ConfigArg, PresetArg, SetArg, SourceArg, SplitArg, open_source
from heal.tools.sweeps.chunk import Chunk, Tally, run_chunk
from heal.tools.sweeps.conditions import ALONE, AXES, Condition, conditions

CHUNK_TICKS = 32
console = Console()

KindArg = Annotated[str, typer.Argument(help="codec, delay, loss, noise or regions.")]
SweepOutArg = Annotated[Path, typer.Option(help="Folder for sweep.json and sweep.png.")]
TownsArg = Annotated[int, typer.Option(min=1, help="So many towns, with seeds from --seed on.")]
SweepTicksArg = Annotated[
    int | None, typer.Option(min=1, help="Ticks of 0.1 s in each town, 16 by default; scenes of a folder, by default all.")
]
SeedArg = Annotated[int, typer.Option(min=0, help="Of the first town, of links and noise.")]
ProcessesArg = Annotated[int, typer.Option(min=0, help="Processes of one thread each; 0 for one on each core.")]


@dataclass(frozen=True)
class Row:
    """A point of a sweep.

    Attributes:
        series: the line that it belongs to.
        x: its place there.
        name: in the table.
        ap: at IoU 0.3, 0.5 and 0.7.
        bytes_per_message: of the messages that crossed a link.
        used: share of them that was used in its own tick.
        held: older maps that stood in, as a share of the messages.
        frames: ticks scored.
    """

    series: str
    x: float
    name: str
    ap: dict[str, float]
    bytes_per_message: float
    used: float
    held: float
    frames: int


def sweep(
    kind: KindArg,
    alliance: AllianceArg,
    out: SweepOutArg,
    source: SourceArg = "town",
    preset: PresetArg = "demo",
    split: SplitArg = None,
    towns: TownsArg = 8,
    ticks: SweepTicksArg = None,
    seed: SeedArg = 1,
    types: TypesArg = None,
    comm_range_m: CommRangeArg = 70.0,
    processes: ProcessesArg = 0,
    config: ConfigArg = None,
    change: SetArg = [],  # noqa: B006 - typer takes a copy
) -> None:
    """Run the same ticks many times, under one condition after another, and draw AP against it; the ego alone beside."""
    settings = read_settings(config, [f"run.comm_range_m={comm_range_m}", *change])
    runs = conditions(kind, settings.run, float32_bytes(alliance))
    make = partial(Chunk, alliance, source, preset, split, types=types)
    if source == "town":
        chunks = [make(seed=seed + i, ticks=range(ticks or 16)) for i in range(towns)]
    else:
        scenes = range(min(ticks or 10**9, len(open_source(source, preset, split, ticks, seed))))
        chunks = [make(seed=seed, ticks=scenes[i : i + CHUNK_TICKS]) for i in range(0, len(scenes), CHUNK_TICKS)]
    tallies = run_chunks(chunks, runs, processes or os.cpu_count() or 1)
    rows = [row_of(condition, tally) for condition, tally in zip(runs, tallies, strict=True)]
    write_metrics(
        out / "sweep.json", {"kind": kind, "source": source, "run": str(settings.run), "rows": [asdict(row) for row in rows]}
    )
    draw_sweep(rows, AXES[kind], kind == "codec", f"{source}, {rows[0].frames} ticks", out / "sweep.png")
    console.print(sweep_table(rows, kind))
    console.print(f"numbers: {out / 'sweep.json'}   figure: {out / 'sweep.png'}")


def float32_bytes(alliance: Path) -> int:
    """Of an alliance's feature map, without a header."""
    base = load_alliance(alliance).base.config
    return 4 * base.in_channels * base.grid.ny * base.grid.nx


def run_chunks(chunks: Sequence[Chunk], runs: Sequence[Condition], processes: int) -> list[Tally]:
    """The tallies of all chunks together, in the order of the runs; equal for any number of processes."""
    total = [Tally() for _ in runs]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(chunks)), mp_context=context) as pool:
        work = pool.map(partial(run_chunk, conditions=runs), chunks)
        for tallies in track(work, f"{len(runs)} runs", total=len(chunks), console=console):
            for tally, part in zip(total, tallies, strict=True):
                tally.merge(part)
    return total


def row_of(condition: Condition, tally: Tally) -> Row:
    """A run's point."""
    counts, results = tally.counts, tally.ap.results()
    size = counts.bytes / max(counts.sent, 1)
    return Row(
        series=condition.series,
        x=size if condition.x is None else condition.x,
        name=condition.name,
        ap={f"{threshold:g}": round(value, 4) for threshold, value in results.ap.items()},
        bytes_per_message=round(size),
        used=round(counts.used / max(counts.sent, 1), 4),
        held=round(tally.held / max(counts.sent, 1), 4),
        frames=results.frames,
    )


def sweep_table(rows: Sequence[Row], kind: str) -> Table:
    """One line for each run."""
    table = Table("", "AP@0.3", "AP@0.5", "AP@0.7", "kB per message", "used", "held", title=f"sweep of {kind}")
    for row in rows:
        ap = [f"{value:.3f}" for value in row.ap.values()]
        table.add_row(row.name, *ap, f"{row.bytes_per_message / 1e3:.1f}", f"{row.used:.0%}", f"{row.held:.0%}")
    return table


def draw_sweep(rows: Sequence[Row], axis: str, logarithmic: bool, title: str, path: Path) -> None:
    """Write AP at IoU 0.5 and 0.7 against what was varied, a line for each series, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.2), dpi=150, layout="constrained")
    for axes, threshold in zip(figure.subplots(1, 2), ("0.5", "0.7"), strict=True):
        _draw_lines(axes, rows, threshold)
        axes.set(xlabel=axis, ylabel=f"AP@{threshold}", ylim=(0, 1), xscale="log" if logarithmic else "linear")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower left", fontsize=9)
    figure.suptitle(title, fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _draw_lines(axes: Any, rows: Sequence[Row], threshold: str) -> None:
    colors = ("#1f6feb", "#d9822b", "#8250df", "#1a7f37")
    names = dict.fromkeys(row.series for row in rows if row.series != ALONE)
    for color, name in zip(colors, names, strict=False):
        points = sorted((row.x, row.ap[threshold]) for row in rows if row.series == name)
        axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=name, color=color)
    for row in rows:
        if row.series == ALONE:
            axes.axhline(row.ap[threshold], color="#57606a", linestyle="--", linewidth=1.2, label=ALONE)
