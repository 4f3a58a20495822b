"""`heal demo`: four agents drive through a town that their networks have never seen; the ego alone against all of them together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import track

from heal.agents.link import LinkSpec
from heal.agents.records import RunOptions, TickResult
from heal.agents.runtime import open_runtime
from heal.agents.types_of import everyone
from heal.alliance import Alliance, load_alliance
from heal.datasets.town import TownSource
from heal.datasets.visibility import SceneVisibility, scene_visibility
from heal.metrics import matched_ground_truth
from heal.tools.assigning import base_type
from heal.tools.draw import draw_comparison, draw_frame, save_animation
from heal.tools.paths import CONFIGS
from heal.tools.scoring import HIDDEN_IOU, RunScore, score_table, write_metrics
from heal.types import SceneSource, load_scene

# Half a second between two scored instants: neighbouring ones at 10 Hz say nearly the same.
STRIDE_TICKS = 5
console = Console()


def demo(
    out: Annotated[Path, typer.Option(help="Folder for metrics.json and pictures.")] = Path("runs/demo"),
    alliance: Annotated[Path, typer.Option(help="Alliance folder.")] = CONFIGS / "demo" / "alliance",
    ticks: Annotated[int, typer.Option(min=1, help="Instants to run, half a second apart.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Another seed is another town, of the test towns.")] = 3,
    runtime: Annotated[str, typer.Option(help="ray or local.")] = "ray",
) -> None:
    """Let four agents drive through an unseen town, each a Ray actor, and compare what they find with what the ego finds alone.

    \b
    heal demo
    heal demo --ticks 20 --seed 8 --out runs/another-town
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    opened = load_alliance(alliance)
    instants = range(0, ticks * STRIDE_TICKS, STRIDE_TICKS)
    source = TownSource("demo", seed=seed, ticks=len(instants) * STRIDE_TICKS, split="test")
    together = run_agents(opened, source, instants, None, runtime)
    alone = run_agents(opened, source, instants, 1, runtime)
    visibilities = [scene_visibility(load_scene(source, tick), opened.grid.range_m) for tick in instants]
    ego, fused = score(alone, visibilities, opened), score(together, visibilities, opened)
    write_metrics(out / "metrics.json", {"ego": ego.metrics(), "fused": fused.metrics()})
    best = most_telling(alone, together, visibilities)
    draw_comparison(alone[best.index], together[best.index], opened.grid.range_m, out / "found_through_others.png")
    save_animation([draw_frame(result, opened.grid.range_m) for result in together], out / "drive.gif")
    console.print(score_table({"ego alone": ego, f"{fused.agents} agents": fused}, "an unseen town"))
    console.print(f"{len(best.ids)} vehicles hidden from the ego, found through others: {out / 'found_through_others.png'}")
    console.print(f"the drive: {out / 'drive.gif'}   numbers: {out / 'metrics.json'}")


def run_agents(alliance: Alliance, source: SceneSource, ticks: range, agents: int | None, runtime: str) -> list[TickResult]:
    """All ticks with so many agents, over links on which everything arrives."""
    options = RunOptions(agents=agents, keep_points=True)
    agent_type = base_type(alliance)
    with open_runtime(runtime, alliance, source, everyone(agent_type), LinkSpec().factory(0), options) as opened:
        title = "the ego alone" if agents == 1 else "all agents"
        return list(track(opened.run(ticks), title, total=len(ticks), console=console))


def score(results: Iterable[TickResult], visibilities: Iterable[SceneVisibility], alliance: Alliance) -> RunScore:
    """Add up a run."""
    total = RunScore(alliance.grid.range_m)
    for result, visibility in zip(results, visibilities, strict=True):
        total.add(result, visibility)
    return total


@dataclass(frozen=True)
class Telling:
    """A tick, by its place in the run, and the hidden vehicles that only all agents together have found in it."""

    index: int
    ids: tuple[int, ...]


def most_telling(alone: list[TickResult], together: list[TickResult], visibilities: list[SceneVisibility]) -> Telling:
    """The tick with the most vehicles that are hidden from the ego, missed by it alone, and found together."""
    found = [Telling(i, found_through_others(*parts)) for i, parts in enumerate(zip(alone, together, visibilities, strict=True))]
    return max(found, key=lambda tick: len(tick.ids))


def found_through_others(alone: TickResult, together: TickResult, visibility: SceneVisibility) -> tuple[int, ...]:
    """Ids of the hidden vehicles that are found only together."""
    truth = together.ground_truth
    hidden = torch.isin(truth.ids, torch.from_numpy(visibility.ids[visibility.hidden]))
    missed = ~matched_ground_truth(alone.detections, truth, HIDDEN_IOU)
    found = matched_ground_truth(together.detections, truth, HIDDEN_IOU)
    return tuple(truth.ids[hidden & missed & found].tolist())
