"""Write the scores of an evaluation: metrics.json, the matches of every scene, precision-recall curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heal.datasets.dataset import DatasetSummary
from heal.tools.pictures.draw import draw_curves
from heal.tools.shared.compared_runs import BLIND, matches_of
from heal.tools.shared.intervals import Comparison
from heal.tools.shared.output import Output, WriteErrors
from heal.tools.shared.scene_matches import SCENES_NAME, write_scenes
from heal.tools.shared.scoring import RunScore, plain_ap


def remarks(summary: DatasetSummary, score: RunScore, stopped: str) -> str:
    """Return what has to be known about the scores of a table: the labels, and the scenes that are not part of them."""
    unknown = score.frames - score.hidden_frames
    lines = [
        f"scored against: {summary.labels_text}" if summary.labels else "",
        f"damaged scenes left out: {summary.damaged}" if summary.damaged else "",
        f"recall of hidden: without {unknown} scenes in which clouds of other agents cannot be read" if unknown else "",
        f"stopped after {score.frames} scenes: {stopped}" if stopped else "",
    ]
    return "".join(f"{line}\n" for line in lines if line)


def write_scores(
    scores: Mapping[str, RunScore],
    read: Mapping[str, Any],
    in_order: bool,
    output: Output,
    errors: WriteErrors,
    stopped: str = "",
    comparisons: Sequence[Comparison] = (),
) -> None:
    """Write metrics.json and precision-recall curves of the last run; with `in_order` also the AP of every run as a step.

    Runs with a blind ego stand under `ego_blind`. Beside the scores stands what was `read` (`Plan.read`), and what ended the last
    run before its end. The matches of all runs are kept in scenes.npz, with the boxes if the scores have kept them.
    """
    sighted = {name: score for name, score in scores.items() if not name.endswith(BLIND)}
    score = list(sighted.values())[-1]
    extra: dict[str, Any] = {**read, "differences": [one.record() for one in comparisons]}
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
