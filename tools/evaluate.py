"""`heal evaluate`: average precision of an alliance on a data set, with all agents of each scene or with fewer."""

from __future__ import annotations

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
from heal.agents.process import usable_cores
from heal.agents.records import TickResult
from heal.alliance import Alliance, load_alliance
from heal.datasets.dataset import DatasetSummary
from heal.datasets.open import open_dataset
from heal.datasets.visibility import scene_visibility
from heal.tools.pictures.draw import draw_curves, draw_tick
from heal.tools.shared.arguments import (
    AgentsArg,
    AllianceArg,
    CacheArg,
    CommRangeArg,
    DataArg,
    IncludeEgoArg,
    ThreadsArg,
    TypesArg,
)
from heal.tools.shared.output import WriteErrors, try_folder
from heal.tools.shared.scoring import RunScore, record_evaluation, score_table, spread_evenly, write_metrics
from heal.tools.shared.type_argument import parse_types, split_names
from heal.types import SceneSource, load_scene

CORES = usable_cores()
console = Console()

OutArg = Annotated[Path, typer.Option(help="Folder for metrics.json and pictures.")]
SplitArg = Annotated[str, typer.Option(help="Split to evaluate.")]
FramesArg = Annotated[int | None, typer.Option(min=1, help="Number of scenes, evenly spaced over the split. Default: all.")]
RangeArg = Annotated[
    tuple[float, float, float, float, float, float] | None,
    typer.Option(
        help="Range in the ego's frame, in metres: x_min y_min z_min x_max y_max z_max. Default: the range that the alliance was "
        "trained on."
    ),
]
PicturesArg = Annotated[int, typer.Option(min=0, help="Number of scenes to draw.")]
PrecisionArg = Annotated[str, typer.Option(help="float32 or bfloat16; bfloat16 is faster on GPUs and on CPUs with AMX.")]
RecordArg = Annotated[bool, typer.Option("--record", help="Write the AP into the alliance folder; `heal info` shows it.")]
InOrderArg = Annotated[
    str | None,
    typer.Option(
        help="Agent types separated by commas: evaluate with the first agent alone, then with one agent more at a time, of these "
        "types in this order."
    ),
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
    include_ego: IncludeEgoArg = False,
    pictures: PicturesArg = 4,
    threads: ThreadsArg = 0,
    precision: PrecisionArg = "float32",
    cache: CacheArg = None,
    record: RecordArg = False,
) -> None:
    """Evaluate the detection AP of an alliance on a data set.

    Prints AP at IoU 0.3, 0.5 and 0.7, and the recall of vehicles hidden from the ego. The ground truth is the labels of all
    agents of a scene, even if only some of the agents take part. Poses are not corrected.

    \b
    heal evaluate --alliance configs/demo/alliance --data runs/town --out runs/alone --agents 1
    heal evaluate --alliance configs/demo/alliance --data runs/town --in-order m1,m2,m3,m4 --out runs/in-order
    heal evaluate --alliance runs/dair-base/alliance --data DAIR_ROOT --split val --out runs/dair-evaluation
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    opened, source = load_alliance(alliance, range_m).for_inference(), open_dataset(data, split, cache=cache)
    console.print(str(source.summary), markup=False)
    drawn = frozenset(spread_evenly(ticks := spread_evenly(range(len(source)), frames or len(source)), pictures))
    types_of, errors = parse_types(in_order or types, opened, source), WriteErrors()
    runs = evaluation_runs(in_order, _options(agents, comm_range_m, precision, threads, drawn, include_ego))
    draw = partial(_draw, drawn=drawn, alliance=opened, out=out, errors=errors)
    try_folder(out)
    scores = {name: evaluate_source(opened, source, types_of, run, ticks, draw) for name, run in runs.items()}
    console.print(score_table(dict(scores), f"{data.name}, {split}"))
    write_scores(scores, source.summary, bool(in_order), out, errors)
    _record(scores, f"{data.name}, {split}", alliance if record else None, errors)
    console.print(f"metrics and pictures: {out}")


def _options(
    agents: int | None, comm_range_m: float, precision: str, threads: int, drawn: frozenset[int], include_ego: bool
) -> RunOptions:
    """Return the options of the command line; ValueError for an unknown precision."""
    # Published results are with poses as they are given.
    options = RunOptions(agents, comm_range_m, correct_poses=False, keep_views=drawn, include_ego=include_ego)
    return replace(options, precision=precision, threads=threads or CORES)  # type: ignore[arg-type]


def _record(scores: Mapping[str, RunScore], title: str, alliance: Path | None, errors: WriteErrors) -> None:
    """Write the scores into the alliance, if one is given; then raise the first error of any file."""
    if alliance is not None:
        with errors.kept():
            record_evaluation(alliance, title, scores)
    errors.raise_first()


def write_scores(scores: Mapping[str, RunScore], summary: DatasetSummary, in_order: bool, out: Path, errors: WriteErrors) -> None:
    """Write metrics.json and precision-recall curves of the last run; with `in_order` also the AP of every run as a step.

    Beside the scores stands what the reader of the data set chose, noted and skipped.
    """
    score = list(scores.values())[-1]
    steps = {"steps": [{"agents": part.agents, "ap": part.metrics()["ap"]} for part in scores.values()]} if in_order else {}
    with errors.kept():
        data = {"labels": summary.labels, "notes": summary.notes, "skipped": summary.skipped}
        write_metrics(out / "metrics.json", {**score.metrics(), "data": data, **steps})
    with errors.kept():
        draw_curves(score.results(), out / "precision_recall.png")


def evaluation_runs(in_order: str | None, options: RunOptions) -> dict[str, RunOptions]:
    """Return the options of each run of an evaluation, by name: of one run, or with `--in-order` of one run for each agent type."""
    if in_order is None:
        return {{None: "all agents", 1: "ego alone"}.get(options.agents, f"{options.agents} agents"): options}
    names = split_names(in_order)
    return {" + ".join(names[:count]): replace(options, agents=count) for count in range(1, len(names) + 1)}


def evaluate_source(
    alliance: Alliance,
    source: SceneSource,
    types_of: TypesOf,
    options: RunOptions,
    ticks: Sequence[int],
    on_result: Callable[[TickResult], None] = lambda _: None,
) -> RunScore:
    """Run scenes in this process, with links on which every message arrives, and return the score.

    Args:
        alliance: the networks.
        source: the scenes.
        types_of: the agents of a scene and their types.
        options: of the run.
        ticks: indices of the scenes.
        on_result: called with each scene's result.
    """
    score = RunScore(alliance.grid.range_m)
    with LocalRuntime(alliance, source, types_of, options=options) as runtime:
        for result in track(runtime.run(ticks), "evaluating", total=len(ticks), console=console):
            score.add(result, scene_visibility(load_scene(source, result.tick), alliance.grid.range_m))
            on_result(result)
    return score


def _draw(result: TickResult, drawn: frozenset[int], alliance: Alliance, out: Path, errors: WriteErrors) -> None:
    """Draw a scene if it is among those to be drawn."""
    if result.tick not in drawn:
        return
    with errors.kept():
        draw_tick(result, alliance.grid.range_m, out / f"scene_{result.tick:06d}.png")
