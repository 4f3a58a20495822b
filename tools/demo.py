"""`heal demo`: agents of different types in a town that their networks have never seen; the ego alone against all together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import track

from heal.agent_types import TypesOf, joining
from heal.agents.network.network import PerfectNetwork
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.agents.runtime import open_runtime
from heal.alliance import Alliance, load_alliance
from heal.datasets.town import PRESETS, TownSource
from heal.datasets.visibility import SceneVisibility, scene_visibility
from heal.detection.metrics import matched_ground_truth
from heal.tools.pictures.draw import draw_comparison, draw_frame, save_animation
from heal.tools.shared.paths import CONFIGS
from heal.tools.shared.scoring import HIDDEN_IOU, RunScore, score_table, write_metrics
from heal.tools.shared.type_argument import in_turn
from heal.types import SceneSource, load_scene

# Half a second between two scored instants: neighbouring ones at 10 Hz say nearly the same.
STRIDE_TICKS = 5
TYPES = "m1,m2,m3,m4,m5"
console = Console()


def demo(
    out: Annotated[Path, typer.Option(help="Folder for metrics.json and pictures.")] = Path("runs/demo"),
    alliance: Annotated[Path, typer.Option(help="Alliance folder.")] = CONFIGS / "demo" / "alliance",
    types: Annotated[
        str, typer.Option(help="Agent types in their order, the ego's first; the last one joins in the middle.")
    ] = TYPES,
    ticks: Annotated[int, typer.Option(min=1, help="Instants to run, half a second apart.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Another seed is another town, of the test towns.")] = 3,
    runtime: Annotated[str, typer.Option(help="ray or local.")] = "ray",
) -> None:
    """Let agents of different types drive through an unseen town, each a Ray actor; one more joins on the way.

    What they find together is compared with what the ego finds alone.

    \b
    heal demo
    heal demo --ticks 20 --seed 8 --out runs/another-town
    heal demo --types m1,m1,m1,m3
    """  # noqa: D301 - click's mark for lines that stay lines is the character, not its name
    opened, names = load_alliance(alliance).for_inference(), types.split(",")
    instants = range(0, ticks * STRIDE_TICKS, STRIDE_TICKS)
    town = replace(PRESETS["demo"], vehicles=max(len(names) - 1, 1))
    source = TownSource(town, seed=seed, ticks=len(instants) * STRIDE_TICKS, split="test")
    plan = plan_join(opened, source, names, instants)
    together = run_agents(opened, source, instants, plan, None, runtime)
    alone = run_agents(opened, source, instants, plan, 1, runtime)
    visibilities = [scene_visibility(load_scene(source, tick), opened.grid.range_m) for tick in instants]
    ego, fused = score(alone, visibilities, opened), score(together, visibilities, opened)
    joined = sum(record.status == "used" for result in together for record in result.messages if record.agent_id == plan.agent_id)
    join = {"agent": plan.agent_id, "agent_type": plan.agent_type, "tick": plan.tick, "messages_used": joined}
    write_metrics(out / "metrics.json", {"ego": ego.metrics(), "fused": fused.metrics(), "join": join})
    best = most_telling(alone, together, visibilities)
    draw_comparison(alone[best.index], together[best.index], opened.grid.range_m, out / "found_through_others.png")
    save_animation([draw_frame(result, opened.grid.range_m) for result in together], out / "drive.gif")
    console.print(score_table({f"the ego ({names[0]}) alone": ego, f"together: {', '.join(names)}": fused}, "an unseen town"))
    console.print(f"{plan.agent_id}, a {plan.agent_type}, joined at tick {plan.tick}; {joined} of its messages were used")
    console.print(f"{len(best.ids)} vehicles hidden from the ego, found through others: {out / 'found_through_others.png'}")
    console.print(f"the drive: {out / 'drive.gif'}   numbers: {out / 'metrics.json'}")


@dataclass(frozen=True)
class Join:
    """Who has which type, and who comes later.

    Attributes:
        types_of: the agents of a scene and their types.
        agent_id: who joins.
        agent_type: its type.
        tick: from which tick on.
    """

    types_of: TypesOf
    agent_id: str
    agent_type: str
    tick: int


def plan_join(alliance: Alliance, source: TownSource, names: list[str], instants: range) -> Join:
    """The agents have the types in their order; the last one joins in the middle of the run."""
    last, tick = source.outline(0).agent_ids[-1], instants[len(instants) // 2]
    types_of = in_turn(names, alliance)
    when = joining(types_of, {last: source.outline(tick).timestamp_ns})
    return Join(when, last, types_of(source.outline(0))[last], tick)


def run_agents(
    alliance: Alliance, source: SceneSource, ticks: range, plan: Join, agents: int | None, runtime: str
) -> list[TickResult]:
    """All ticks with so many agents, over links on which everything arrives."""
    options = RunOptions(agents=agents, keep_views=True)
    with open_runtime(runtime, alliance, source, plan.types_of, PerfectNetwork(), options) as opened:
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
