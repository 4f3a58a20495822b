"""Run an evaluation: scenes in, scores out, which are printed and written even after an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from heal.agent_types import TypesOf
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.alliance import Alliance
from heal.tools.evaluation.compute import Compute
from heal.tools.evaluation.plan import Plan
from heal.tools.evaluation.results import remarks, write_scores
from heal.tools.evaluation.scenes import Evaluated, part_scores, results_of
from heal.tools.pictures.draw import draw_tick
from heal.tools.shared.compared_runs import compare_runs, matches_of
from heal.tools.shared.gained import draw_gains
from heal.tools.shared.intervals import Comparison, comparison_table
from heal.tools.shared.output import Output, WriteErrors, try_folder
from heal.tools.shared.scoring import RunScore, record_evaluation, score_table
from heal.tools.terminal.progress import track
from heal.types import SceneSource

console = Console()


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
            scores[name] = plan.empty_score(options)
            on_result = (lambda _: None) if options.blind_ego else draw
            _evaluate(plan, options, on_result, scores[name])
    except BaseException as error:
        stopped = " ".join(str(error).split()) or "interrupted"
        raise
    else:
        comparisons = compare_runs(scores, plan.earlier, plan.shown.rule, plan.shown.iou)
    finally:
        if done := {name: score for name, score in scores.items() if score.frames}:
            console.print(score_table(done, title, plan.shown.rule, plan.shown.iou))
            if plan.shown.breakdown:
                console.print(plan.shown.breakdown_table(matches_of(done)))
            console.print(
                remarks(plan.summary, list(done.values())[-1], stopped), markup=False, highlight=False, soft_wrap=True, end=""
            )
            if comparisons:
                console.print(comparison_table(comparisons))
            write_scores(done, plan.read, in_order, plan.output, errors, stopped, comparisons)
    if in_order and plan.drawn:
        with errors.kept():
            _draw_gains(plan, scores)
    _record(scores, title, record_to, errors)
    console.print(f"metrics and pictures: {plan.output.folder}")


def _evaluate(plan: Plan, options: RunOptions, on_result: Callable[[TickResult], None], score: RunScore) -> None:
    """Add all scenes to a score, in this process or in several."""
    if plan.compute.processes == 1 or len(plan.recordings) == 1:
        evaluate_source(plan.alliance, plan.source, plan.types_of, options, plan.ticks, on_result, score, plan.compute)
        return
    evaluated = Evaluated(plan.alliance, plan.source, plan.types_of, options, score.keep_boxes, score.sensors)
    parts = part_scores(evaluated, plan.recordings, plan.compute)
    for part in track(parts, "evaluating recordings", len(plan.recordings), console):
        score.merge(part.score)
        for result in part.shown:
            on_result(result)


def evaluate_source(
    alliance: Alliance,
    source: SceneSource,
    types_of: TypesOf,
    options: RunOptions,
    ticks: Sequence[int],
    on_result: Callable[[TickResult], None] = lambda _: None,
    score: RunScore | None = None,
    compute: Compute | None = None,
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
        compute: the device and how many scenes are taken at once; None for one after the other on the CPU.
    """
    score = RunScore(alliance.grid.range_m, options.use_z) if score is None else score
    results = results_of(Evaluated(alliance, source, types_of, options), ticks, compute or Compute())
    for result in track(results, "evaluating", len(ticks), console):
        score.add(result, result.visibility)
        on_result(result)
    return score


def _draw_gains(plan: Plan, scores: Mapping[str, RunScore]) -> None:
    """Draw the gain by each added agent; runs with a blind ego are left out."""
    runs = {name: (options, scores[name].ap) for name, options in plan.runs.items() if not options.blind_ego}
    shown = plan.output.folder, plan.output.made_by.margin, plan.compute.devices[0]
    draw_gains(plan.alliance, plan.source, plan.types_of, plan.ticks, runs, *shown)


def _draw(result: TickResult, drawn: frozenset[int], alliance: Alliance, output: Output, errors: WriteErrors) -> None:
    """Draw a scene if it is among those to be drawn."""
    if result.tick not in drawn:
        return
    with errors.kept():
        path = output.folder / f"scene_{result.tick:06d}.png"
        draw_tick(result, alliance.grid.range_m, path, margin=output.made_by.margin)


def _record(scores: Mapping[str, RunScore], title: str, alliance: Path | None, errors: WriteErrors) -> None:
    """Write the scores into the alliance, if one is given; then raise the first error of any file."""
    if alliance is not None:
        with errors.kept():
            record_evaluation(alliance, title, scores)
    errors.raise_first()
