"""`heal score`: average precision of an evaluation by other measures; another range needs boxes that it has kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from heal.config import to_plain
from heal.detection.boxes import corners_within_range
from heal.detection.detections import Detections, GroundTruth
from heal.detection.metrics import IOU_THRESHOLDS, ap_text, match_in_all_kinds
from heal.errors import UserError
from heal.grid import Range
from heal.measures.breakdown import breakdown_record, parts_of
from heal.measures.matches import SceneFacts, SceneMatch, SceneMatches
from heal.measures.precision import precision_by_threshold
from heal.tools.evaluation.shown import DISTANCES, Shown
from heal.tools.shared.arguments import BreakdownArg, DistancesArg, IouArg, RuleArg
from heal.tools.shared.made_by import MADE_BY, MadeBy, read_made_by
from heal.tools.shared.output import METRICS_NAME, write_json
from heal.tools.shared.scene_matches import SCENES_NAME, read_scenes
from heal.tools.shared.scoring import class_rows
from heal.tools.shared.type_argument import split_names

EXAMPLES = """\b
heal score runs/evaluation
heal score runs/evaluation --rule per_frame --iou 3d --out runs/evaluation/score.json
heal score runs/evaluation --breakdown --distances 20,40
heal score runs/saved --thresholds 0.5,0.7 --range-m -25.6 -25.6 -3 25.6 25.6 1
"""
USUAL_THRESHOLDS = ",".join(map(str, IOU_THRESHOLDS))
console = Console()

FolderArg = Annotated[Path, typer.Argument(help="Folder of an evaluation.")]
RangeArg = Annotated[
    tuple[float, float, float, float, float, float] | None,
    typer.Option(
        help="Count only boxes inside this range in the ego's frame, in metres: x_min y_min z_min x_max y_max z_max. Default: the "
        "range of the evaluation. Another one needs an evaluation with --save-detections."
    ),
]
ThresholdsArg = Annotated[
    str,
    typer.Option(
        help=f"IoU thresholds, separated by commas. Others than {USUAL_THRESHOLDS} need an evaluation with --save-detections."
    ),
]
OutArg = Annotated[Path | None, typer.Option(help="JSON file for the scores. Default: they are only printed.")]


def score(
    context: typer.Context,
    folder: FolderArg,
    rule: RuleArg = "global",
    iou: IouArg = "bev",
    thresholds: ThresholdsArg = USUAL_THRESHOLDS,
    range_m: RangeArg = None,
    breakdown: BreakdownArg = False,
    distances: DistancesArg = DISTANCES,
    out: OutArg = None,
) -> None:
    """Score an evaluation again by other measures.

    These are the other rule of AP, overlaps in space, AP of parts of the vehicles, other thresholds and a smaller range. With the
    same rule, thresholds and range, the AP is that of the evaluation to the last bit.
    """
    shown, evaluated = Shown.parse(rule, iou, breakdown, distances), _Evaluated.read(folder)
    change = MatchAgain(_thresholds(thresholds), evaluated.narrowed(range_m), evaluated.use_z)
    runs = change.of_runs(read_scenes(folder), folder / SCENES_NAME)
    title = f"{evaluated.made_by.scenes.source}, {evaluated.made_by.scenes.split}"
    counted_m = range_m or evaluated.range_m
    console.print(scores_table(runs, shown, title, counted_m))
    if breakdown:
        console.print(shown.breakdown_table(runs))
    if out is not None:
        made_by = MadeBy.of(context, evaluated.made_by.alliance, evaluated.made_by.scenes)
        record = {**scores_record(runs, shown), "range_m": list(counted_m), "use_z": evaluated.use_z}
        write_json(out, {**record, MADE_BY: to_plain(made_by)})
        console.print(f"numbers: {out}")


@dataclass(frozen=True)
class MatchAgain:
    """How kept boxes are matched again.

    Attributes:
        iou_thresholds: the least overlaps that find an object.
        range_m: x, y, z of the lower and of the upper corner of a range, metres in the ego's frame; boxes that are not wholly
            inside do not count. None to count every box.
        use_z: whether objects must lie in the range in height too, as detections must.
    """

    iou_thresholds: tuple[float, ...]
    range_m: Range | None
    use_z: bool

    def of_runs(self, runs: Mapping[str, SceneMatches], path: Path) -> dict[str, SceneMatches]:
        """Return the matches of runs with these thresholds and this range; UserError if that takes boxes which are not kept."""
        if self.range_m is None and set(self.iou_thresholds) <= set(IOU_THRESHOLDS):
            return {name: run.at(self.iou_thresholds) for name, run in runs.items()}
        kept = {name: self._of_run(run) for name, run in runs.items() if run.boxes is not None}
        if not kept:
            raise UserError(
                f"{path}: holds no boxes, which other thresholds than {USUAL_THRESHOLDS} and a smaller range need; evaluate again "
                "with --save-detections"
            )
        return kept

    def _of_run(self, run: SceneMatches) -> SceneMatches:
        scenes = zip(run.scene_ids.tolist(), run.scenes(), strict=True)
        again = [self._of_scene(name, *scene) for name, scene in scenes]
        return SceneMatches.of(again, thresholds=self.iou_thresholds, class_names=run.class_names.tolist())

    def _of_scene(self, name: str, found: Detections, truth: GroundTruth, facts: SceneFacts) -> SceneMatch:
        if self.range_m is not None:
            found = found.select(corners_within_range(found.corners, self.range_m))
            inside = corners_within_range(truth.corners, self.range_m, self.use_z)
            truth, facts = truth.select(inside), facts.select(inside.numpy())
        return SceneMatch.of(name, match_in_all_kinds(found, truth, self.iou_thresholds), found, truth, facts)


@dataclass(frozen=True)
class _Evaluated:
    """What an evaluation says of itself: its record, its range, and whether objects had to lie in it in height too."""

    made_by: MadeBy
    range_m: Range
    use_z: bool

    @staticmethod
    def read(folder: Path) -> _Evaluated:
        """Read the record of an evaluation from its folder; UserError if there is none."""
        path, made_by = folder / METRICS_NAME, read_made_by(folder)
        try:
            metrics = json.loads(path.read_text(encoding="utf-8"))
            edges, use_z = tuple(map(float, metrics["range_m"])), bool(metrics["use_z"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: not readable as the results of an evaluation ({error})") from error
        if made_by is None or len(edges) != 6:
            raise UserError(f"{folder}: expected the folder of an earlier `heal evaluate`, with run.yaml and {METRICS_NAME}")
        return _Evaluated(made_by, edges, use_z)

    def narrowed(self, range_m: Range | None) -> Range | None:
        """Return a range to score, None if it is that of the evaluation; UserError if it reaches beyond that, where no box is."""
        if range_m is None or range_m == self.range_m:
            return None
        pairs = list(zip(self.range_m, range_m, strict=True))
        if any(low > wanted for low, wanted in pairs[:3]) or any(high < wanted for high, wanted in pairs[3:]):
            edges = " ".join(f"{edge:g}" for edge in self.range_m)
            raise UserError(f"--range-m: expected a range inside that of the evaluation, {edges}; evaluate again on the larger one")
        return range_m


def _thresholds(text: str) -> tuple[float, ...]:
    """Read IoU thresholds, each once; UserError for anything else than numbers above 0, at most 1."""
    try:
        thresholds = tuple(dict.fromkeys(float(part) for part in split_names(text)))
    except ValueError:
        thresholds = ()
    if not thresholds or not all(0.0 < threshold <= 1.0 for threshold in thresholds):
        raise UserError(f"--thresholds {text!r}: expected numbers above 0 and at most 1, separated by commas, such as 0.5,0.7")
    return thresholds


def scores_table(runs: Mapping[str, SceneMatches], shown: Shown, title: str, range_m: Sequence[float]) -> Table:
    """Make a table with one row for each run, and below one for each class where there are several."""
    thresholds = next(iter(runs.values())).thresholds.tolist()
    table = Table("run", *(f"AP@{threshold:g}" for threshold in thresholds), "detections", "objects", "frames", title=title)
    for name, run in runs.items():
        ap = precision_by_threshold(run, shown.rule, shown.iou)
        table.add_row(name, *map(ap_text, ap.values()), str(len(run.scores)), str(run.objects.sum()), str(len(run.scene_ids)))
        for title_of_class, aps, objects in class_rows(run, shown.rule, shown.iou):
            table.add_row(title_of_class, *aps, "", str(objects), "")
    table.caption = f"{shown.text}; range {', '.join(f'{edge:g}' for edge in range_m)} m"
    return table


def scores_record(runs: Mapping[str, SceneMatches], shown: Shown) -> dict[str, Any]:
    """Return the scores as plain values, with the rule."""
    records = {
        name: {
            "ap": precision_by_threshold(run, shown.rule, shown.iou),
            "breakdown": breakdown_record(parts_of(run, shown.edges_m, shown.rule, shown.iou)),
            "detections": len(run.scores),
            "ground_truths": int(run.objects.sum()),
            "frames": len(run.scene_ids),
        }
        for name, run in runs.items()
    }
    return {"runs": records, "rule": shown.text}
