"""The score of a run: AP, together and of the ego alone, recall of vehicles hidden from the ego, bytes, what the guard saw.

It goes into metrics.json and into a table, and is kept in the alliance.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch import Tensor

from heal.agents.message_records import MessageCounts
from heal.agents.records import GuardReport, TickResult
from heal.detection.classes import VEHICLE
from heal.detection.detections import Detections, GroundTruth
from heal.detection.error_kinds import FEW_POINTS, ErrorKinds, error_kinds_of
from heal.detection.heading import HeadingError, heading_error_of
from heal.detection.metrics import (
    AP_RULE,
    NOT_AVAILABLE,
    ApAccumulator,
    ApResult,
    IouKind,
    Recall,
    Rule,
    ap_rule,
    ap_text,
    recall_of,
)
from heal.detection.visibility import SceneVisibility
from heal.errors import UserError
from heal.measures.breakdown import EDGES_M, breakdown_record, class_subsets, parts_of
from heal.measures.matches import SceneFacts, SceneMatch, SceneMatches
from heal.measures.precision import all_measures, count_objects, precision_by_threshold
from heal.tools.shared.output import write_json
from heal.tools.terminal.tables import narrow_table

HIDDEN_IOU = 0.5
HEADING_IOU = 0.5
MOST_NAME_WIDTH = 20  # a narrow terminal cuts words of a run's name beyond this
EVALUATIONS_NAME = "evaluations.json"
_RECORDED = ("ap", "classes", "frames", "range_m")  # entries of metrics.json that are kept in the alliance
EGO_ALONE = "ego alone"  # the name of a run with the ego only, and of what the ego alone finds in a run with others


@dataclass
class GuardSums:
    """The sums of `GuardReport` over ticks.

    Attributes:
        ticks: number of ticks with a report.
        confident: number of confident boxes of the ego alone.
        lost: how many of them the fusion did not find again, before a guard did anything.
        put_back: boxes that a guard has added.
        blamed: number of ticks in which a guard left a sender's map out, by agent.
    """

    ticks: int = 0
    confident: int = 0
    lost: int = 0
    put_back: int = 0
    blamed: Counter[str] = field(default_factory=Counter)

    def add(self, report: GuardReport) -> None:
        """Add the report of a tick."""
        self.ticks += 1
        self.confident += report.confident
        self.lost += report.lost
        self.put_back += report.put_back
        self.blamed.update(report.blamed)

    def merge(self, other: GuardSums) -> None:
        """Add the sums over other ticks."""
        self.ticks, self.confident = self.ticks + other.ticks, self.confident + other.confident
        self.lost, self.put_back = self.lost + other.lost, self.put_back + other.put_back
        self.blamed.update(other.blamed)

    def metrics(self) -> dict[str, Any] | None:
        """Return the sums as an entry of metrics.json; None if no tick had a report."""
        if not self.ticks:
            return None
        share = self.lost / self.confident if self.confident else None
        counts = {"confident": self.confident, "lost": self.lost, "share_lost": share, "put_back": self.put_back}
        return {**counts, "blamed": dict(sorted(self.blamed.items()))}


def _points_on(result: TickResult, visibility: SceneVisibility | None) -> Tensor | None:
    """Return the number of points (G,) of the ego or of the agent with most points on each vehicle of a tick; None if not known."""
    if visibility is None:
        return None
    seen = dict(zip(visibility.ids.tolist(), np.maximum(visibility.ego_points, visibility.best_other_points).tolist(), strict=True))
    return torch.tensor([seen.get(number, FEW_POINTS) for number in result.ground_truth.ids.tolist()])


@dataclass
class RunScore:
    """The sums over the ticks of a run.

    Attributes:
        range_m: x, y, z of the lower and of the upper corner of the evaluated range, metres in the ego's frame.
        use_z: whether objects must lie in the range in height too.
        ap: accumulator over all ticks so far.
        alone: accumulator of what the ego finds alone, over the ticks that have its map.
        guard: what became of the ego's confident boxes.
        scenes: the matches of all ticks so far, for every measure.
        alone_scenes: the same of what the ego finds alone.
        heading: heading error at IoU 0.5 of the detections that found a vehicle.
        errors: detections and vehicles by kind of error.
        hidden: recall at IoU 0.5 of the vehicles on which the ego has fewer than 5 points, and another agent more than 20.
        hidden_alone: recall of these vehicles by the ego alone, over the ticks that have its map.
        hidden_frames: number of ticks in which it is known which vehicles are hidden from the ego.
        frames: number of ticks.
        agents: largest number of agents in a tick.
        counts: messages over links.
        keep_boxes: whether the boxes are kept with the matches, so that they can be scored again.
        boxes: the detections and the objects of the ticks, if they are kept.
        alone_boxes: the same of what the ego finds alone, of the ticks that have its map.
        sensors: the sensors of agent types by their names, "lidar", "camera" or "lidar+camera", as far as they are known.
        edges_m: distances from the ego at which the ranges of the breakdown meet.
        class_names: names of the classes of the base, by their numbers, as the ticks tell them.
    """

    range_m: tuple[float, ...]
    use_z: bool = True
    ap: ApAccumulator = field(default_factory=ApAccumulator)
    alone: ApAccumulator = field(default_factory=ApAccumulator)
    guard: GuardSums = field(default_factory=GuardSums)
    scenes: list[SceneMatch] = field(default_factory=list)
    alone_scenes: list[SceneMatch] = field(default_factory=list)
    heading: HeadingError = field(default_factory=HeadingError)
    errors: ErrorKinds = field(default_factory=ErrorKinds)
    hidden: Recall = field(default_factory=Recall)
    hidden_alone: Recall = field(default_factory=Recall)
    hidden_frames: int = 0
    frames: int = 0
    agents: int = 0
    counts: MessageCounts = field(default_factory=MessageCounts)
    keep_boxes: bool = False
    boxes: list[tuple[Detections, GroundTruth]] = field(default_factory=list)
    alone_boxes: list[tuple[Detections, GroundTruth]] = field(default_factory=list)
    sensors: Mapping[str, str] = field(default_factory=dict)
    edges_m: tuple[float, ...] = EDGES_M
    class_names: tuple[str, ...] = (VEHICLE,)

    def add(self, result: TickResult, visibility: SceneVisibility | None = None) -> None:
        """Add a tick; `visibility` tells which of its vehicles are hidden from the ego, None if this is not known."""
        self.class_names = result.class_names
        self.ap.add_match(result.match)
        facts = SceneFacts.of(result.ground_truth, visibility, result.ego_type, self.sensors.get(result.ego_type, ""))
        self.scenes.append(SceneMatch.of(result.scene_id, result.matches, result.detections, result.ground_truth, facts))
        if result.alone is not None and result.alone_matches is not None:
            self.alone.add_match(result.alone_matches["bev"])
            alone = SceneMatch.of(result.scene_id, result.alone_matches, result.alone, result.ground_truth, facts)
            self.alone_scenes.append(alone)
        if self.keep_boxes:
            self._keep_boxes(result)
        if result.guard is not None:
            self.guard.add(result.guard)
        self.heading = self.heading + heading_error_of(result.detections, result.ground_truth, HEADING_IOU)
        self.errors = self.errors + error_kinds_of(result.detections, result.ground_truth, _points_on(result, visibility))
        self.frames += 1
        self.agents = max(self.agents, len(result.messages))
        self.counts = self.counts + result.counts
        if visibility is not None:
            self.hidden_frames += 1
            hidden_ids = torch.from_numpy(visibility.ids[visibility.hidden])
            mask = torch.isin(result.ground_truth.ids, hidden_ids)
            self.hidden = self.hidden + recall_of(result.detections, result.ground_truth, mask, HIDDEN_IOU)
            if result.alone is not None:
                self.hidden_alone = self.hidden_alone + recall_of(result.alone, result.ground_truth, mask, HIDDEN_IOU)

    def _keep_boxes(self, result: TickResult) -> None:
        self.boxes.append((result.detections, result.ground_truth))
        if result.alone is not None:
            self.alone_boxes.append((result.alone, result.ground_truth))

    def merge(self, other: RunScore) -> None:
        """Add the score of the same run over the scenes that come next."""
        self.class_names = other.class_names if other.frames else self.class_names
        self.ap.merge(other.ap)
        self.alone.merge(other.alone)
        self.guard.merge(other.guard)
        self.scenes += other.scenes
        self.alone_scenes += other.alone_scenes
        self.heading, self.errors = self.heading + other.heading, self.errors + other.errors
        self.hidden, self.hidden_alone = self.hidden + other.hidden, self.hidden_alone + other.hidden_alone
        self.hidden_frames += other.hidden_frames
        self.frames += other.frames
        self.agents, self.counts = max(self.agents, other.agents), self.counts + other.counts
        self.boxes += other.boxes
        self.alone_boxes += other.alone_boxes

    def results(self) -> ApResult:
        """Return AP with its precision-recall curves."""
        return self.ap.results()

    def matches(self) -> SceneMatches:
        """Return the matches of all scenes."""
        return SceneMatches.of(self.scenes, self.boxes, class_names=self.class_names)

    def alone_matches(self) -> SceneMatches | None:
        """Return the matches of what the ego finds alone; None unless every scene has its map."""
        whole = self.frames and len(self.alone_scenes) == self.frames
        return SceneMatches.of(self.alone_scenes, self.alone_boxes, class_names=self.class_names) if whole else None

    def metrics(self) -> dict[str, Any]:
        """Return the scores as entries of metrics.json."""
        result, matches = self.results(), self.matches()
        return {
            "ap": plain_ap(result),
            **_classes_record(matches),
            "measures": all_measures(matches),
            "breakdown": breakdown_record(parts_of(matches, self.edges_m)),
            "ego_alone": _alone_metrics(self.alone.results()),
            "guard": self.guard.metrics(),
            "rule": AP_RULE,
            "range_m": list(self.range_m),
            "use_z": self.use_z,
            "frames": self.frames,
            "agents": self.agents,
            "ground_truths": result.ground_truths,
            "heading_error": {"iou": HEADING_IOU, "mean_deg": self.heading.mean_deg, "matched": self.heading.matched},
            "errors": self.errors.counts(),
            "bytes_per_message": round(self.counts.bytes_per_message),
            "hidden_from_ego": {
                "vehicles": self.hidden.objects,
                "recall": _share(self.hidden),
                "recall_alone": _share(self.hidden_alone),
            },
        }


def _share(recall: Recall) -> float | None:
    return recall.value if recall.objects else None


def recall_text(recall: Recall) -> str:
    """Return a recall with the number of its objects; "-" without objects."""
    return f"{recall.value:.2f} of {recall.objects}" if recall.objects else "-"


def plain_ap(result: ApResult) -> dict[str, float | None]:
    """Return AP by threshold with the keys of metrics.json."""
    return {str(threshold): value for threshold, value in result.ap.items()}


def _classes_record(matches: SceneMatches) -> dict[str, Any]:
    """Return AP and the number of objects of each class as an entry of metrics.json; nothing where there is one class."""
    classes = {
        name: {"ap": precision_by_threshold(matches, subset=subset), "ground_truths": count_objects(matches, subset)}
        for name, subset in class_subsets(matches).items()
    }
    return {"classes": classes} if classes else {}


def class_rows(matches: SceneMatches, rule: Rule, iou: IouKind) -> list[tuple[str, list[str], int]]:
    """Return for each class its indented name, its AP as texts and the number of its objects; nothing where there is one class."""
    rows = []
    for name, subset in class_subsets(matches).items():
        ap = precision_by_threshold(matches, rule, iou, subset)
        rows.append((f"  {name}", list(map(ap_text, ap.values())), count_objects(matches, subset)))
    return rows


def _alone_metrics(result: ApResult) -> dict[str, Any] | None:
    """Return what the ego finds alone as an entry of metrics.json; None without a scene that has the ego's map."""
    if not result.frames:
        return None
    return {"ap": plain_ap(result), "ground_truths": result.ground_truths, "frames": result.frames}


def spread_evenly(ticks: Sequence[int], count: int) -> list[int]:
    """Return at most `count` of the ticks, evenly spaced, from the first one on."""
    count = min(count, len(ticks))
    return [ticks[i * len(ticks) // count] for i in range(count)]


def score_table(scores: dict[str, RunScore], title: str, rule: Rule = "global", iou: IouKind = "bev") -> Table:
    """Make a table with one row for each run, by name, and one for the ego alone unless a run is that of the ego alone.

    AP is by this rule and this overlap, of several classes the mean; each class has a row of its own below.
    """
    table = Table(title=title)
    indented = [f"  {name}" for score in scores.values() for name in score.class_names if len(score.class_names) > 1]
    longest_word = max(map(len, [*indented, *(word for name in scores for word in name.split())]), default=0)
    table.add_column(min_width=min(longest_word, MOST_NAME_WIDTH))
    for heading in ("AP@0.3", "AP@0.5", "AP@0.7", "heading\nerror", "recall of\nhidden", "frames", "kB per\nmessage"):
        table.add_column(heading)
    for name, score in scores.items():
        matches = score.matches()
        ap = [ap_text(value) for value in precision_by_threshold(matches, rule, iou).values()]
        error_deg = score.heading.mean_deg
        heading = NOT_AVAILABLE if error_deg is None else f"{error_deg:.1f} deg"
        hidden = recall_text(score.hidden)
        size = f"{score.counts.bytes_per_message / 1e3:.1f}" if score.counts.bytes else "-"
        table.add_row(name, *ap, heading, hidden, str(score.frames), size)
        for title_of_class, ap, _ in class_rows(matches, rule, iou):
            table.add_row(title_of_class, *ap, "", "", "", "")
    first = next(iter(scores.values()))
    if first.alone_scenes and all(score.agents > 1 for score in scores.values()):
        found_alone = SceneMatches.of(first.alone_scenes, class_names=first.class_names)
        hidden, alone = recall_text(first.hidden_alone), precision_by_threshold(found_alone, rule, iou)
        table.add_row(EGO_ALONE, *map(ap_text, alone.values()), "-", hidden, str(len(first.alone_scenes)), "-")
    table.caption = f"{ap_rule(rule, iou)}; range {', '.join(f'{value:g}' for value in first.range_m)} m"
    table.caption += "" if first.use_z else ", objects in x and y alone"
    table.caption += "; mean of the classes" if len(first.class_names) > 1 else ""
    if not all(score.results().ground_truths for score in scores.values()):
        table.caption += f"; {NOT_AVAILABLE}: no objects in range"
    return table


def record_evaluation(alliance: Path, data: str, scores: Mapping[str, RunScore]) -> None:
    """Write the AP of each run, by name, into the folder of an alliance; replaces the earlier entry for the same data."""
    evaluations = read_evaluations(alliance)
    metrics = {name: score.metrics() for name, score in scores.items()}
    evaluations[data] = {name: {key: run[key] for key in _RECORDED if key in run} for name, run in metrics.items()}
    write_json(alliance / EVALUATIONS_NAME, evaluations)


def read_evaluations(alliance: Path) -> dict[str, Any]:
    """Read what `record_evaluation` has written: data -> run -> AP, frames and range; empty without a file.

    Raises:
        UserError: the file holds anything else.
    """
    path = alliance / EVALUATIONS_NAME
    if not path.is_file():
        return {}
    try:
        evaluations = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); remove it, and `heal evaluate --record` writes it again") from error
    if not isinstance(evaluations, dict):
        raise UserError(f"{path}: expected evaluations by data set, got {type(evaluations).__name__}; remove it")
    return evaluations


def evaluations_table(alliance: Path) -> Table | None:
    """Make a table of the recorded evaluations of an alliance; None if there are none."""
    evaluations = read_evaluations(alliance)
    if not evaluations:
        return None
    table = narrow_table(("evaluated on", "agents", "AP@0.3", "AP@0.5", "AP@0.7", "frames"))
    for data, runs in evaluations.items():
        for name, run in runs.items():
            table.add_row(data, name, *(ap_text(value) for value in run["ap"].values()), str(run["frames"]))
            for title, part in run.get("classes", {}).items():
                table.add_row("", f"  {title}", *(ap_text(value) for value in part["ap"].values()), "")
    return table
