"""`heal demo`: agents of different types in a town that their networks have never seen; the ego alone compared with all agents."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from heal.agent_types import TypesOf, in_order
from heal.agents.deployment import Deployment
from heal.agents.joining import Join
from heal.agents.network.network import PerfectNetwork
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.agents.runtime import open_runtime
from heal.alliance import Alliance, load_alliance
from heal.datasets.town import PRESETS, TownSource
from heal.detection.metrics import matched_ground_truth
from heal.device import choose_device
from heal.tools.pictures.draw import draw_comparison, draw_frame, save_animation
from heal.tools.shared.arguments import AllianceArg, DeviceArg, OverwriteArg, RuntimeArg
from heal.tools.shared.made_by import ScenesRecord
from heal.tools.shared.output import METRICS_NAME, Output, try_folder, unused_folder
from heal.tools.shared.paths import CONFIGS
from heal.tools.shared.scoring import HIDDEN_IOU, RunScore, score_table
from heal.tools.shared.sources import TOWN
from heal.tools.shared.type_argument import require_types, split_names
from heal.tools.terminal.progress import track
from heal.types import SceneSource

# Half a second between two evaluated ticks: neighbouring ticks at 10 Hz are nearly equal.
STRIDE_TICKS = 5
TYPES = "m1,m2,m3,m5,m4"  # m4 is taught as a roadside unit, which comes last
PRESET, SPLIT = "demo", "test"
FOLDER = Path("runs/demo")
FOUND_NAME, DRIVE_NAME = "found_through_others.png", "drive.gif"
console = Console()

OutArg = Annotated[
    Path | None,
    typer.Option(
        help=f"Folder for run.yaml, metrics.json and pictures. Default: {FOLDER}, or {FOLDER}-2 and so on if it is taken."
    ),
]
TypesArg = Annotated[
    str,
    typer.Option(help="Agent types of the agents in their order, the ego's first; the last agent joins in the middle of the run."),
]

EXAMPLES = """\b
heal demo
heal demo --ticks 20 --seed 8 --out runs/another-town
heal demo --types m1,m1,m1,m3
"""


def demo(
    context: typer.Context,
    out: OutArg = None,
    overwrite: OverwriteArg = False,
    alliance: AllianceArg = CONFIGS / "demo" / "alliance",
    types: TypesArg = TYPES,
    ticks: Annotated[int, typer.Option(min=1, help="Number of instants to run, half a second apart.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the test town: each seed is another town.")] = 3,
    runtime: RuntimeArg = "ray",
    device: DeviceArg = "auto",
) -> None:
    """Run agents of different types in an unseen town.

    Each agent is a Ray actor; the last one joins in the middle of the run. The vehicles that all agents find together are compared
    with those that the ego finds alone.
    """
    deployment = Deployment(device=str(choose_device(device)))
    opened, names = load_alliance(alliance).for_inference(), split_names(types)
    require_types(names, opened)
    recorded = ScenesRecord.of(TOWN, PRESET, SPLIT, types, seed)
    output = Output.of(context, out or unused_folder(FOLDER), overwrite, opened, recorded)
    instants = range(0, ticks * STRIDE_TICKS, STRIDE_TICKS)
    source = open_town(len(names), seed, len(instants) * STRIDE_TICKS)
    plan = plan_join(source, names, instants)
    try_folder(output.folder)
    together = run_agents(opened, source, instants, plan, None, runtime, deployment)
    alone = run_agents(opened, source, instants, plan, 1, runtime, deployment)
    ego, fused = score(alone, opened), score(together, opened)
    joined = sum(record.status == "used" for result in together for record in result.messages if record.agent_id == plan.agent_id)
    join = {"agent": plan.agent_id, "agent_type": plan.join.agent_type, "tick": plan.join.tick, "messages_used": joined}
    console.print(score_table({f"the ego ({names[0]}) alone": ego, f"together: {', '.join(names)}": fused}, "an unseen town"))
    output.start()
    output.write_results({"ego": ego.metrics(), "fused": fused.metrics(), "join": join})
    example = choose_example(alone, together)
    draw_pictures(alone, together, example.index, opened.grid.range_m, output)
    console.print(f"{plan.agent_id} ({plan.join.agent_type}) joined at tick {plan.join.tick}; {joined} of its messages were used")
    console.print(f"{len(example.ids)} vehicles hidden from the ego, found through others: {output.folder / FOUND_NAME}")
    console.print(f"animation: {output.folder / DRIVE_NAME}   numbers: {output.folder / METRICS_NAME}")
    console.print(f"next: {next_command(alliance)}", soft_wrap=True, markup=False, highlight=False)


def next_command(alliance: Path) -> str:
    """Return a command to go on with; in an environment that is not activated, its activation comes first."""
    activation = "" if shutil.which("heal") else f". {Path(sys.executable).parent / 'activate'} && "
    return f"{activation}heal simulate --alliance {alliance} --view web --out {unused_folder(Path('runs/simulation'))}"


def open_town(agents: int, seed: int, ticks: int) -> TownSource:
    """Open a test town with this number of agents, but at least two; one of them is a roadside unit."""
    preset = replace(PRESETS[PRESET], vehicles=max(agents - 1, 1))
    return TownSource(preset, seed=seed, ticks=ticks, split=SPLIT)


@dataclass(frozen=True)
class JoinPlan:
    """The types of all agents, and the agent that joins later.

    Attributes:
        types_of: the agents of a scene and their types.
        agent_id: the agent that joins.
        join: its type, and the first tick in which it takes part.
    """

    types_of: TypesOf
    agent_id: str
    join: Join


def plan_join(source: TownSource, names: list[str], instants: range) -> JoinPlan:
    """Give the agents the types in their order; the last agent joins in the middle of the run."""
    last, tick = source.outline(0).agent_ids[-1], instants[len(instants) // 2]
    types_of = in_order(names)
    return JoinPlan(types_of, last, Join(types_of(source.outline(0))[last], tick, last))


def run_agents(
    alliance: Alliance,
    source: SceneSource,
    ticks: range,
    plan: JoinPlan,
    agents: int | None,
    runtime: str,
    deployment: Deployment,
) -> list[TickResult]:
    """Run all ticks with at most `agents` agents (None for all), over links on which every message arrives."""
    options = RunOptions(agents=agents, joins=() if agents == 1 else (plan.join,), keep_views=True, count_points=True)
    with open_runtime(runtime, alliance, source, plan.types_of, PerfectNetwork(), options, deployment) as opened:
        title = "the ego alone" if agents == 1 else "all agents"
        return list(track(opened.run(ticks), title, len(ticks), console))


def score(results: Iterable[TickResult], alliance: Alliance) -> RunScore:
    """Return the score of a run."""
    total = RunScore(alliance.grid.range_m)
    for result in results:
        total.add(result, result.visibility)
    return total


@dataclass(frozen=True)
class ExampleTick:
    """A tick for the picture.

    Attributes:
        index: position of the tick in the run.
        ids: vehicles hidden from the ego that only all agents together have found.
    """

    index: int
    ids: tuple[int, ...]


def choose_example(alone: list[TickResult], together: list[TickResult]) -> ExampleTick:
    """Return the first tick with the most vehicles that are hidden from the ego, missed by the ego alone, and found together."""
    ticks = zip(alone, together, strict=True)
    examples = [ExampleTick(i, found_through_others(*tick)) for i, tick in enumerate(ticks)]
    return max(examples, key=lambda example: len(example.ids))


def draw_pictures(
    alone: list[TickResult], together: list[TickResult], example: int, range_m: tuple[float, ...], output: Output
) -> None:
    """Write the comparison of the example tick, given by its position in the run, and the animation of all agents' run."""
    folder, margin = output.folder, output.made_by.margin
    draw_comparison(alone[example], together[example], range_m, folder / FOUND_NAME, margin=margin)
    save_animation([draw_frame(result, range_m, margin=margin) for result in together], folder / DRIVE_NAME)


def found_through_others(alone: TickResult, together: TickResult) -> tuple[int, ...]:
    """Return the ids of the vehicles hidden from the ego that the ego alone misses and all agents together find."""
    truth = together.ground_truth
    missed = ~matched_ground_truth(alone.detections, truth, HIDDEN_IOU)
    found = matched_ground_truth(together.detections, truth, HIDDEN_IOU)
    return tuple(truth.ids[torch.from_numpy(together.hidden) & missed & found].tolist())
