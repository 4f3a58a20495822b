"""`heal evaluate`: average precision of an alliance on a data set, with all agents of each scene or with fewer."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from heal.agents.local_runtime import LocalRuntime
from heal.agents.records import RunOptions, TickResult
from heal.alliance import Alliance, load_alliance
from heal.datasets.open import open_dataset
from heal.datasets.visibility import scene_visibility
from heal.tools.arguments import AgentsArg, AllianceArg, CommRangeArg, DataArg, EgoArg, ThreadsArg, TypeArg
from heal.tools.draw import draw_curves, draw_tick
from heal.tools.scoring import RunScore, score_table, spread, write_metrics
from heal.types import SceneSource, load_scene

console = Console()


OutArg = Annotated[Path, typer.Option(help="Folder for metrics.json and pictures.")]
SplitArg = Annotated[str, typer.Option(help="Split to evaluate.")]
FramesArg = Annotated[int | None, typer.Option(min=1, help="Only so many scenes, spread over the split.")]
RangeArg = Annotated[
    tuple[float, float, float, float, float, float] | None,
    typer.Option(help="x_min y_min z_min x_max y_max z_max to run over, if not what the alliance was trained on."),
]
PicturesArg = Annotated[int, typer.Option(min=0, help="Number of scenes to draw.")]


def evaluate(
    alliance: AllianceArg,
    data: DataArg,
    out: OutArg,
    split: SplitArg = "test",
    agents: AgentsArg = None,
    agent_type: TypeArg = None,
    frames: FramesArg = None,
    comm_range_m: CommRangeArg = 70.0,
    range_m: RangeArg = None,
    include_ego: EgoArg = False,
    pictures: PicturesArg = 4,
    threads: ThreadsArg = 0,
) -> None:
    """Evaluate detection: AP at IoU 0.3, 0.5 and 0.7, and the recall of vehicles hidden from the ego.

    Ground truth is what all agents of a scene have labelled, however few take part.

    \b
    heal evaluate --alliance configs/demo/alliance --data runs/town --split test --out runs/together
    heal evaluate --alliance configs/demo/alliance --data runs/town --split test --out runs/alone --agents 1
    heal evaluate --alliance runs/dair-base/alliance --data DAIR_ROOT --split val --out runs/dair-evaluation
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    opened, source = load_alliance(alliance, range_m), open_dataset(data, split)
    console.print(str(source.summary))
    ticks = spread(range(len(source)), frames or len(source))
    drawn = frozenset(spread(ticks, pictures))
    options = RunOptions(agents, comm_range_m, threads=threads or os.cpu_count() or 1, keep_points=drawn, include_ego=include_ego)
    score = evaluate_source(opened, source, agent_type, options, ticks, lambda result: _draw(result, drawn, opened, out))
    write_metrics(out / "metrics.json", score.metrics())
    draw_curves(score.results(), out / "precision_recall.png")
    console.print(score_table({f"{score.agents} agents" if score.agents > 1 else "ego alone": score}, f"{data.name}, {split}"))
    console.print(f"metrics and pictures: {out}")


def evaluate_source(
    alliance: Alliance,
    source: SceneSource,
    agent_type: str | None,
    options: RunOptions,
    ticks: Sequence[int],
    on_result: Callable[[TickResult], None] = lambda _: None,
) -> RunScore:
    """Score scenes with everybody in one process and messages that always arrive."""
    name = agent_type or alliance.agent_names[0]
    alliance.agent(name)
    score = RunScore(alliance.grid.range_m)
    with LocalRuntime(alliance, source, everyone(name), options=options) as runtime:
        for result in track(runtime.run(ticks), "evaluating", total=len(ticks), console=console):
            score.add(result, scene_visibility(load_scene(source, result.tick), alliance.grid.range_m))
            on_result(result)
    return score


def _draw(result: TickResult, drawn: frozenset[int], alliance: Alliance, out: Path) -> None:
    if result.tick in drawn:
        draw_tick(result, alliance.grid.range_m, out / f"scene_{result.tick:06d}.png")
