"""`heal evaluate`: average precision of an alliance on a data set, with all agents of each scene or with fewer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from heal.agent_types import TypesOf
from heal.agents.local_runtime import LocalRuntime
from heal.agents.options import RunOptions
from heal.agents.process import usable_cores
from heal.agents.records import TickResult
from heal.alliance import Alliance
from heal.datasets.assignment import with_ego
from heal.datasets.dataset import Dataset, DatasetError, DatasetSummary, OnDamage
from heal.detection.visibility import SceneVisibility, scene_visibility
from heal.tools.checks.fit import DataFit
from heal.tools.checks.ranges import open_on_range
from heal.tools.pictures.draw import draw_curves, draw_tick
from heal.tools.shared.arguments import (
    AgentsArg,
    AllianceArg,
    CacheArg,
    CommRangeArg,
    DataArg,
    EgoTypeArg,
    GroundTruthArg,
    IncludeEgoArg,
    IntensityScaleArg,
    OnDamageArg,
    OverwriteArg,
    ThreadsArg,
    TypesArg,
    UseZArg,
)
from heal.tools.shared.compared_runs import BLIND, Earlier, compare_runs, matches_of, read_earlier
from heal.tools.shared.gained import draw_gains
from heal.tools.shared.intervals import Comparison, comparison_table
from heal.tools.shared.made_by import ScenesRecord
from heal.tools.shared.output import Output, WriteErrors, try_folder
from heal.tools.shared.scene_matches import SCENES_NAME, write_scenes
from heal.tools.shared.scoring import RunScore, plain_ap, record_evaluation, score_table, spread_evenly
from heal.tools.shared.sources import ReadOptions, choose_scenes, sensors_of
from heal.tools.shared.type_argument import base_type, parse_types, split_names, with_egos
from heal.tools.terminal.progress import track
from heal.types import SceneOutline, SceneSource, load_scene

CORES = usable_cores()
console = Console()

OutArg = Annotated[Path, typer.Option(help="Folder for run.yaml, metrics.json, scenes.npz and pictures.")]
SplitArg = Annotated[str, typer.Option(help="Split to evaluate.")]
FramesArg = Annotated[int | None, typer.Option(min=1, help="Number of scenes, evenly spaced over the split. Default: all.")]
RangeArg = Annotated[
    tuple[float, float, float, float, float, float] | None,
    typer.Option(
        help="Range in the ego's frame, in metres: x_min y_min z_min x_max y_max z_max; z only selects the boxes that "
        "count. Default: the range that the alliance was trained on."
    ),
]
PicturesArg = Annotated[int, typer.Option(min=0, help="Number of scenes to draw.")]
PrecisionArg = Annotated[str, typer.Option(help="float32 or bfloat16; bfloat16 is faster on GPUs and on CPUs with AMX.")]
RecordArg = Annotated[bool, typer.Option("--record", help="Write the AP into the alliance folder; `heal info` shows it.")]
InOrderArg = Annotated[
    str | None,
    typer.Option(
        help="Agent types separated by commas: evaluate with the first agent alone, then with one agent more at a time, of these "
        "types in this order; gain_2.png, gain_3.png and so on show the scene in which the added agent helps most."
    ),
]
AgainstArg = Annotated[
    Path | None,
    typer.Option(help="Folder of an earlier evaluation of the same scenes: print the differences of AP to it, with 90% intervals."),
]

EXAMPLES = """\b
heal evaluate --alliance configs/demo/alliance --data runs/town --out runs/alone --agents 1
heal evaluate --alliance configs/demo/alliance --data runs/town --in-order m1,m2,m3,m4 --out runs/in-order
heal evaluate --alliance runs/mine --data runs/town --out runs/mine-evaluation --against runs/alone
heal evaluate --alliance runs/dair-base/alliance --data DAIR_ROOT --split val --out runs/dair-evaluation
"""


def evaluate(
    context: typer.Context,
    alliance: AllianceArg,
    data: DataArg,
    out: OutArg,
    overwrite: OverwriteArg = False,
    split: SplitArg = "test",
    agents: AgentsArg = None,
    types: TypesArg = None,
    in_order: InOrderArg = None,
    ego_type: EgoTypeArg = None,
    against: AgainstArg = None,
    frames: FramesArg = None,
    comm_range_m: CommRangeArg = 70.0,
    range_m: RangeArg = None,
    use_z: UseZArg = None,
    ground_truth: GroundTruthArg = "joint",
    include_ego: IncludeEgoArg = False,
    pictures: PicturesArg = 4,
    threads: ThreadsArg = 0,
    precision: PrecisionArg = "float32",
    cache: CacheArg = None,
    on_damage: OnDamageArg = "stop",
    intensity_scale: IntensityScaleArg = None,
    record: RecordArg = False,
) -> None:
    """Evaluate the detection AP of an alliance on a data set, against the labels of all agents in range. Poses are not corrected.

    If the ego has cameras, the row "ego blind" shows the AP without the ego's map. Differences have 90% intervals.
    """
    opened = open_on_range(alliance, range_m).for_inference()
    recorded = ScenesRecord(source=str(data), split=split, types=in_order or types or base_type(opened), ego_type=ego_type)
    output = Output.of(context, out, overwrite, opened, recorded)
    reading = ReadOptions.of(on_damage, intensity_scale, cache, ground_truth, every_agent=bool(ego_type))
    scenes = choose_evaluated(reading.open_and_show(data, split), frames, recorded, opened, reading.on_damage)
    fit = DataFit(opened, None if agents == 1 else comm_range_m, range_m is not None, True)
    fit.warn(scenes.source, scenes.ticks, scenes.types_of)
    runs = evaluation_runs(in_order, _options(agents, comm_range_m, precision, threads, include_ego, use_z is not False))
    plan = plan_of(opened, scenes, runs, pictures, output, against)
    run_and_report(plan, f"{data.name}, {split}", bool(in_order), alliance if record else None)


@dataclass(frozen=True)
class EvaluatedScenes:
    """The scenes of an evaluation.

    Attributes:
        source: the scenes, with their egos.
        summary: of the data set.
        types_of: the agents of a scene and their types.
        ticks: indices of the scenes to evaluate.
        outlines: of these scenes, without poses.
    """

    source: SceneSource
    summary: DatasetSummary
    types_of: TypesOf
    ticks: Sequence[int]
    outlines: Sequence[SceneOutline]


def choose_evaluated(
    source: Dataset, count: int | None, recorded: ScenesRecord, alliance: Alliance, on_damage: OnDamage
) -> EvaluatedScenes:
    """Return `count` scenes, or all, of those that can be read, with the agent types and the egos of the command line."""
    egos = split_names(recorded.ego_type)
    types_of = parse_types(recorded.types, alliance, source, egos)
    spread = spread_evenly(range(len(source)), count or len(source))
    ticks, summary = choose_scenes(source, spread, sensors_of(alliance, types_of), on_damage)
    outlines = [with_ego(outline, types_of(outline), egos) for outline in map(source.listed, ticks)]
    return EvaluatedScenes(with_egos(source, types_of, egos), summary, types_of, ticks, outlines)


@dataclass(frozen=True)
class Plan:
    """Everything that an evaluation needs.

    Attributes:
        alliance: the networks.
        source: the scenes.
        summary: of the data set.
        types_of: the agents of a scene and their types.
        ticks: indices of the scenes to evaluate.
        runs: the options of each run, by name.
        drawn: the scenes to draw.
        output: where the results go, and what makes them.
        earlier: the evaluation to compare with.
    """

    alliance: Alliance
    source: SceneSource
    summary: DatasetSummary
    types_of: TypesOf
    ticks: Sequence[int]
    runs: Mapping[str, RunOptions]
    drawn: frozenset[int]
    output: Output
    earlier: Earlier | None = None


def plan_of(
    alliance: Alliance,
    scenes: EvaluatedScenes,
    runs: Mapping[str, RunOptions],
    pictures: int,
    output: Output,
    against: Path | None,
) -> Plan:
    """Return the plan of an evaluation, which draws some scenes; where egos have cameras, it has the runs with a blind ego too."""
    drawn = frozenset(spread_evenly(scenes.ticks, pictures))
    runs = {name: replace(options, keep_views=drawn) for name, options in runs.items()}
    runs = with_blind_egos(runs) if has_camera_egos(alliance, scenes.outlines, scenes.types_of) else runs
    earlier = read_earlier(against, scenes.outlines)
    return Plan(alliance, scenes.source, scenes.summary, scenes.types_of, scenes.ticks, runs, drawn, output, earlier)


def run_and_report(plan: Plan, title: str, in_order: bool, record_to: Path | None) -> None:
    """Evaluate, print the scores, and write them into the output, and into the alliance `record_to` if one is given.

    After an error or Ctrl-C the scores of the scenes before are printed and written, and the exception is raised again.
    """
    scores: dict[str, RunScore] = {}
    errors, stopped, comparisons = WriteErrors(), "", list[Comparison]()
    draw = partial(_draw, drawn=plan.drawn, alliance=plan.alliance, output=plan.output, errors=errors)
    try_folder(plan.output.folder)
    plan.output.start()
    try:
        for name, options in plan.runs.items():
            scores[name] = RunScore(plan.alliance.grid.range_m, options.use_z)
            on_result = (lambda _: None) if options.blind_ego else draw
            evaluate_source(plan.alliance, plan.source, plan.types_of, options, plan.ticks, on_result, scores[name])
    except BaseException as error:
        stopped = " ".join(str(error).split()) or "interrupted"
        raise
    else:
        comparisons = compare_runs(scores, plan.earlier)
    finally:
        if done := {name: score for name, score in scores.items() if score.frames}:
            console.print(score_table(done, title))
            console.print(
                _remarks(plan.summary, list(done.values())[-1], stopped), markup=False, highlight=False, soft_wrap=True, end=""
            )
            if comparisons:
                console.print(comparison_table(comparisons))
            write_scores(done, plan.summary, in_order, plan.output, errors, stopped, comparisons)
    if in_order and plan.drawn:
        with errors.kept():
            _draw_gains(plan, scores)
    _record(scores, title, record_to, errors)
    console.print(f"metrics and pictures: {plan.output.folder}")


def _draw_gains(plan: Plan, scores: Mapping[str, RunScore]) -> None:
    """Draw the gain by each added agent; runs with a blind ego are left out."""
    runs = {name: (options, scores[name].ap) for name, options in plan.runs.items() if not options.blind_ego}
    margin = plan.output.made_by.margin
    draw_gains(plan.alliance, plan.source, plan.types_of, plan.ticks, runs, plan.output.folder, margin)


def _remarks(summary: DatasetSummary, score: RunScore, stopped: str) -> str:
    """Return what has to be known about the scores of a table: the labels, and the scenes that are not part of them."""
    unknown = score.frames - score.hidden_frames
    lines = [
        f"scored against: {summary.labels_text}" if summary.labels else "",
        f"damaged scenes left out: {summary.damaged}" if summary.damaged else "",
        f"recall of hidden: without {unknown} scenes in which clouds of other agents cannot be read" if unknown else "",
        f"stopped after {score.frames} scenes: {stopped}" if stopped else "",
    ]
    return "".join(f"{line}\n" for line in lines if line)


def _options(agents: int | None, comm_range_m: float, precision: str, threads: int, include_ego: bool, use_z: bool) -> RunOptions:
    """Return the options of the command line; ValueError for an unknown precision."""
    # Published results are with poses as they are given.
    options = RunOptions(agents, comm_range_m, correct_poses=False, include_ego=include_ego, use_z=use_z)
    return replace(options, precision=precision, threads=threads or CORES)  # type: ignore[arg-type]


def _record(scores: Mapping[str, RunScore], title: str, alliance: Path | None, errors: WriteErrors) -> None:
    """Write the scores into the alliance, if one is given; then raise the first error of any file."""
    if alliance is not None:
        with errors.kept():
            record_evaluation(alliance, title, scores)
    errors.raise_first()


def write_scores(
    scores: Mapping[str, RunScore],
    summary: DatasetSummary,
    in_order: bool,
    output: Output,
    errors: WriteErrors,
    stopped: str = "",
    comparisons: Sequence[Comparison] = (),
) -> None:
    """Write metrics.json and precision-recall curves of the last run; with `in_order` also the AP of every run as a step.

    Runs with a blind ego stand under `ego_blind`. Beside the scores stands what the reader of the data set chose, noted and
    skipped, and what ended the last run before its end. The matches of all runs are kept in scenes.npz.
    """
    sighted = {name: score for name, score in scores.items() if not name.endswith(BLIND)}
    score = list(sighted.values())[-1]
    extra: dict[str, Any] = {"data": summary.record(), "differences": [one.record() for one in comparisons]}
    if in_order:
        extra["steps"] = [{"run": name, "agents": part.agents, "ap": plain_ap(part.results())} for name, part in sighted.items()]
    if blind := {name.removesuffix(BLIND): plain_ap(part.results()) for name, part in scores.items() if name not in sighted}:
        extra["ego_blind"] = {name: {"ap": ap} for name, ap in blind.items()}
    if stopped:
        extra["stopped"] = stopped
    with errors.kept():
        output.write_results({**score.metrics(), **extra})
    with errors.kept():
        write_scenes(output.folder / SCENES_NAME, matches_of(scores))
    with errors.kept():
        draw_curves(score.results(), output.folder / "precision_recall.png", output.made_by.margin)


def evaluation_runs(in_order: str | None, options: RunOptions) -> dict[str, RunOptions]:
    """Return the options of each run of an evaluation, by name: of one run, or with `--in-order` of one run for each agent type."""
    if in_order is None:
        return {{None: "all agents", 1: "ego alone"}.get(options.agents, f"{options.agents} agents"): options}
    names = split_names(in_order)
    return {" + ".join(names[:count]): replace(options, agents=count) for count in range(1, len(names) + 1)}


def with_blind_egos(runs: Mapping[str, RunOptions]) -> dict[str, RunOptions]:
    """Add to each run of several agents the same run with a blind ego."""
    result: dict[str, RunOptions] = {}
    for name, options in runs.items():
        result[name] = options
        if options.agents != 1:
            result[f"{name}{BLIND}"] = replace(options, blind_ego=True)
    return result


def has_camera_egos(alliance: Alliance, outlines: Iterable[SceneOutline], types_of: TypesOf) -> bool:
    """Return whether the ego has cameras in a scene with other agents."""
    assigned = ((outline.ego_id, types_of(outline)) for outline in outlines)
    egos = {types[ego_id] for ego_id, types in assigned if ego_id in types and len(types) > 1}
    return any(alliance.agent(name).sensor.cameras for name in egos)


def evaluate_source(
    alliance: Alliance,
    source: SceneSource,
    types_of: TypesOf,
    options: RunOptions,
    ticks: Sequence[int],
    on_result: Callable[[TickResult], None] = lambda _: None,
    score: RunScore | None = None,
) -> RunScore:
    """Run scenes in this process, with links on which every message arrives, and return the score.

    Args:
        alliance: the networks.
        source: the scenes.
        types_of: the agents of a scene and their types.
        options: of the run.
        ticks: indices of the scenes.
        on_result: called with each scene's result.
        score: takes each scene's result, for whoever wants it after an error too.
    """
    score = RunScore(alliance.grid.range_m, options.use_z) if score is None else score
    with LocalRuntime(alliance, source, types_of, options=options) as runtime:
        for result in track(runtime.run(ticks), "evaluating", len(ticks), console):
            seen = replace(result, visibility=_visibility(source, result.tick, alliance.grid.range_m))
            score.add(seen, seen.visibility)
            on_result(seen)
    return score


def _visibility(source: SceneSource, tick: int, range_m: Sequence[float]) -> SceneVisibility | None:
    """Return which vehicles are hidden from the ego in a scene.

    None if this is not known: a cloud that no agent of the run needs is missing or damaged.
    """
    try:
        return scene_visibility(load_scene(source, tick), range_m)
    except DatasetError:
        return None


def _draw(result: TickResult, drawn: frozenset[int], alliance: Alliance, output: Output, errors: WriteErrors) -> None:
    """Draw a scene if it is among those to be drawn."""
    if result.tick not in drawn:
        return
    with errors.kept():
        path = output.folder / f"scene_{result.tick:06d}.png"
        draw_tick(result, alliance.grid.range_m, path, margin=output.made_by.margin)
