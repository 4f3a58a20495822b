"""`heal bench`: what things cost, as ratios measured side by side in one run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from heal.tools.bench_row import BenchRow
from heal.tools.bench_runtime import bench_runtime
from heal.tools.bench_scale import bench_scale
from heal.tools.paths import CONFIGS

BENCHES: dict[str, Callable[[Path], list[BenchRow]]] = {"runtime": bench_runtime, "scale": bench_scale}
console = Console()

NamesArg = Annotated[list[str], typer.Argument(help=f"What to measure: {', '.join(BENCHES)}.")]
AllianceArg = Annotated[Path, typer.Option(help="Alliance folder.")]
JsonArg = Annotated[Path | None, typer.Option("--json", help="Write the rows to this file too.")]


def bench(names: NamesArg, alliance: AllianceArg = CONFIGS / "demo" / "alliance", json_path: JsonArg = None) -> None:
    """Measure on this machine, which should be idle; times hold for it alone, ratios travel.

    runtime: the run on Ray against the same work in plain processes, its own time per message, the fusion node's time against the
    number of agents. scale: 64 agents for 300 ticks, and what memory they take.

    \b
    heal bench runtime
    heal bench runtime scale --json runs/bench.json
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        raise ValueError(f"unknown bench {unknown[0]!r}; there are {', '.join(BENCHES)}")
    rows = [row for name in names for row in BENCHES[name](alliance)]
    console.print(bench_table(rows))
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")


def bench_table(rows: Sequence[BenchRow]) -> Table:
    """One line for each row; of the columns those in which something stands."""
    lines = [(row.name, *_numbers(row), f"{row.threads}, {row.dtype}", row.note) for row in rows]
    titles = ("", "median", "spread", "GFLOP", "of yardstick", "over naive", "threads", "")
    used = [i for i in range(len(titles)) if any(line[i] for line in lines)]
    table = Table(title="measured on this machine")
    for i in used:
        table.add_column(titles[i], no_wrap=i < len(titles) - 1)
    for line in lines:
        table.add_row(*(line[i] for i in used))
    return table


def _numbers(row: BenchRow) -> tuple[str, ...]:
    measured = f"{row.value:.4g} {row.unit}" if row.seconds is None else f"{row.seconds * 1e3:.4g} ms"
    formats = ((row.spread, "{:.0%}"), (row.flops and row.flops / 1e9, "{:.3g}"), (row.yardstick_fraction, "{:.0%}"))
    rest = tuple("" if number is None else text.format(number) for number, text in formats)
    return measured, *rest, "" if row.speedup_over_naive is None else f"{row.speedup_over_naive:.1f}x"
