"""`heal evaluate`: average precision of an alliance on a data set, with all agents of each scene or with fewer."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from heal.agent_types import TypesOf
from heal.agents.local_runtime import LocalRuntime
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.alliance import Alliance, load_alliance
from heal.datasets.open import open_dataset
from heal.datasets.visibility import scene_visibility
from heal.tools.pictures.draw import draw_curves, draw_tick
from heal.tools.shared.arguments import (
    AgentsArg,
    AllianceArg,
    CacheArg,
    CommRangeArg,
    DataArg,
    EgoArg,
    PrecisionArg,
    ThreadsArg,
    TypesArg,
)
from heal.tools.shared.scoring import RunScore, record, score_table, spread, write_metrics
from heal.tools.shared.type_argument import parse_types
from heal.types import SceneSource, load_scene

# As published numbers are made: with poses as they are given.
ALIGN = False
CORES = os.cpu_count() or 1
console = Console()


OutArg = Annotated[Path, typer.Option(help="Folder for metrics.json and pictures.")]
SplitArg = Annotated[str, typer.Option(help="Split to evaluate.")]
FramesArg = Annotated[int | None, typer.Option(min=1, help="Only so many scenes, spread over the split.")]
RangeArg = Annotated[
    tuple[float, float, float, float, float, float] | None,
    typer.Option(help="x_min y_min z_min x_max y_max z_max to run over, if not what the alliance was trained on."),
]
PicturesArg = Annotated[int, typer.Option(min=0, help="Number of scenes to draw.")]


KeepArg = Annotated[bool, typer.Option("--record", help="Keep the AP in the alliance, where `heal info` shows it.")]
InOrderArg = Annotated[
    str | None,
    typer.Option(help="Types joined by commas: evaluate with one agent, with two and so on, of these types in this order."),
]


def evaluate(
    alliance: AllianceArg,
    data: DataArg,
    out: OutArg,
    split: SplitArg = "test",
    agents: AgentsArg = None,
    types: TypesArg = None,
    in_order: InOrderArg = None,
    frames: FramesArg = None,
    comm_range_m: CommRangeArg = 70.0,
    range_m: RangeArg = None,
    include_ego: EgoArg = False,
    pictures: PicturesArg = 4,
    threads: ThreadsArg = 0,
    precision: PrecisionArg = "float32",
    cache: CacheArg = None,
    keep: KeepArg = False,
) -> None:
    """Evaluate detection: AP at IoU 0.3, 0.5 and 0.7, and the recall of vehicles hidden from the ego.

    Ground truth is what all agents of a scene have labelled, however few take part.

    \b
    heal evaluate --alliance configs/demo/alliance --data runs/town --out runs/alone --agents 1
    heal evaluate --alliance configs/demo/alliance --data runs/town --in-order m1,m2,m3,m4 --out runs/in-order
    heal evaluate --alliance runs/dair-base/alliance --data DAIR_ROOT --split val --out runs/dair-evaluation
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    opened, source = load_alliance(alliance, range_m).for_inference(), open_dataset(data, split, cache=cache)
    console.print(str(source.summary))
    ticks = spread(range(len(source)), frames or len(source))
    drawn = frozenset(spread(ticks, pictures))
    options = _options(agents, comm_range_m, precision, threads, drawn, include_ego)
    types_of, draw = parse_types(in_order or types, opened, source), partial(_draw, drawn=drawn, alliance=opened, out=out)
    rows = {
        name: evaluate_source(opened, source, types_of, step, ticks, draw) for name, step in steps_of(in_order, options).items()
    }
    write_rows(rows, bool(in_order), out)
    if keep:
        record(alliance, f"{data.name}, {split}", rows)
    console.print(score_table(rows, f"{data.name}, {split}"), f"metrics and pictures: {out}", sep="\n")


def _options(
    agents: int | None, comm_range_m: float, precision: str, threads: int, drawn: frozenset[int], include_ego: bool
) -> RunOptions:
    """As the command line has them; ValueError for a precision that there is not."""
    options = RunOptions(agents, comm_range_m, align=ALIGN, keep_views=drawn, include_ego=include_ego)
    return replace(options, precision=precision, threads=threads or CORES)  # type: ignore[arg-type]


def write_rows(rows: Mapping[str, RunScore], steps: bool, out: Path) -> None:
    """Write the last run's metrics and curves, and with `steps` the AP of all of them."""
    score = list(rows.values())[-1]
    told = {"steps": [{"agents": part.agents, "ap": part.metrics()["ap"]} for part in rows.values()]} if steps else {}
    write_metrics(out / "metrics.json", {**score.metrics(), **told})
    draw_curves(score.results(), out / "precision_recall.png")


def steps_of(in_order: str | None, options: RunOptions) -> dict[str, RunOptions]:
    """The runs of an evaluation by name: one, or with agent types in order one for each of them, with one agent more each."""
    if in_order is None:
        return {{None: "all agents", 1: "ego alone"}.get(options.agents, f"{options.agents} agents"): options}
    names = in_order.split(",")
    return {" + ".join(names[:count]): replace(options, agents=count) for count in range(1, len(names) + 1)}


def evaluate_source(
    alliance: Alliance,
    source: SceneSource,
    types_of: TypesOf,
    options: RunOptions,
    ticks: Sequence[int],
    on_result: Callable[[TickResult], None] = lambda _: None,
) -> RunScore:
    """Score scenes with everybody in one process and messages that always arrive."""
    score = RunScore(alliance.grid.range_m)
    with LocalRuntime(alliance, source, types_of, options=options) as runtime:
        for result in track(runtime.run(ticks), "evaluating", total=len(ticks), console=console):
            score.add(result, scene_visibility(load_scene(source, result.tick), alliance.grid.range_m))
            on_result(result)
    return score


def _draw(result: TickResult, drawn: frozenset[int], alliance: Alliance, out: Path) -> None:
    if result.tick in drawn:
        draw_tick(result, alliance.grid.range_m, out / f"scene_{result.tick:06d}.png")
