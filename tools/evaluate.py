"""`heal evaluate`: average precision of an alliance on a data set, with all agents of each scene or with fewer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
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
from heal.tools.draw import draw_curves, draw_tick
from heal.tools.scoring import RunScore, score_table, write_metrics
from heal.types import SceneSource, load_scene

console = Console()


def evaluate(
    alliance: Annotated[Path, typer.Option(help="Alliance folder.")],
    data: Annotated[Path, typer.Option(help="Folder of scenes: OPV2V layout or DAIR-V2X-C.")],
    out: Annotated[Path, typer.Option(help="Folder for metrics.json and pictures.")],
    split: Annotated[str, typer.Option(help="Split to evaluate.")] = "test",
    agents: Annotated[int | None, typer.Option(min=1, help="Agents that take part, ego included; 1 for the ego alone.")] = None,
    agent_type: Annotated[str | None, typer.Option(help="Type of all agents; by default the alliance's first.")] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Only so many scenes, spread over the split.")] = None,
    comm_range_m: Annotated[float, typer.Option(help="Agents further than this from the ego take no part.")] = 70.0,
    range_m: Annotated[
        tuple[float, float, float, float, float, float] | None,
        typer.Option(help="x_min y_min z_min x_max y_max z_max to run over, if not what the alliance was trained on."),
    ] = None,
    include_ego: Annotated[
        bool, typer.Option("--include-ego", help="Count the ego's own vehicle where others label it, as OPV2V's tools do.")
    ] = False,
    pictures: Annotated[int, typer.Option(min=0, help="Number of scenes to draw.")] = 4,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 for all cores.")] = 0,
) -> None:
    r"""Evaluate detection: AP at IoU 0.3, 0.5 and 0.7, and the recall of vehicles hidden from the ego.

    Ground truth is what all agents of a scene have labelled, however few take part.

    \b
    heal evaluate --alliance configs/demo/alliance --data runs/town --split test --out runs/together
    heal evaluate --alliance configs/demo/alliance --data runs/town --split test --out runs/alone --agents 1
    heal evaluate --alliance runs/dair-base/alliance --data DAIR_ROOT --split val --out runs/dair-evaluation
    """
    opened, source = load_alliance(alliance, range_m), open_dataset(data, split)
    console.print(str(source.summary))
    options = RunOptions(
        agents=agents,
        comm_range_m=comm_range_m,
        threads=threads or os.cpu_count() or 1,
        keep_points=pictures > 0,
        include_ego=include_ego,
    )
    ticks = spread(len(source), frames or len(source))
    drawn = set(spread_over(ticks, pictures))
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
    ticks: Iterable[int],
    on_result: Callable[[TickResult], None] = lambda _: None,
) -> RunScore:
    """Score scenes with everybody in one process and messages that always arrive."""
    name = agent_type or alliance.agent_names[0]
    alliance.agent(name)
    score = RunScore(alliance.grid.range_m)
    with LocalRuntime(alliance, source, lambda _: name, options=options) as runtime:
        for result in track(runtime.run(ticks), "evaluating", total=len(list(ticks)), console=console):
            score.add(result, scene_visibility(load_scene(source, result.tick), alliance.grid.range_m))
            on_result(result)
    return score


def spread(length: int, count: int) -> list[int]:
    """`count` indices spread evenly over `length`."""
    count = min(count, length)
    return [i * length // count for i in range(count)]


def spread_over(ticks: list[int], count: int) -> list[int]:
    """`count` of the ticks, spread evenly."""
    return [ticks[i] for i in spread(len(ticks), count)] if count else []


def _draw(result: TickResult, drawn: set[int], alliance: Alliance, out: Path) -> None:
    if result.tick in drawn:
        draw_tick(result, alliance.grid.range_m, out / f"scene_{result.tick:06d}.png")
