"""`heal score`: average precision of the detections that `heal evaluate --save-detections` has kept, by other rules if wanted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.console import Console
from rich.table import Table

from heal.config import to_plain
from heal.detection.boxes import corners_within_range
from heal.detection.metrics import AP_RULES, IOU_THRESHOLDS, ApOrder, ApResult, ap_text, average_precision, match_frame
from heal.errors import UserError
from heal.grid import Range
from heal.tools.shared.made_by import MADE_BY, MadeBy, read_made_by
from heal.tools.shared.output import METRICS_NAME, write_json
from heal.tools.shared.scene_matches import SCENES_NAME, SceneMatches, read_scenes
from heal.tools.shared.scoring import plain_ap
from heal.tools.shared.type_argument import split_names

EXAMPLES = """\b
heal score runs/evaluation
heal score runs/evaluation --iou 0.5,0.7 --range-m -25.6 -25.6 -3 25.6 25.6 1
heal score runs/evaluation --order frame --out runs/evaluation/score.json
"""
USUAL_IOU = ",".join(map(str, IOU_THRESHOLDS))
console = Console()

FolderArg = Annotated[Path, typer.Argument(help="Folder of an evaluation with --save-detections.")]
RangeArg = Annotated[
    tuple[float, float, float, float, float, float] | None,
    typer.Option(
        help="Count only boxes inside this range in the ego's frame, in metres: x_min y_min z_min x_max y_max z_max. Default: the "
        "range of the evaluation."
    ),
]
IouArg = Annotated[str, typer.Option(help="IoU thresholds, separated by commas.")]
OrderArg = Annotated[
    str,
    typer.Option(
        help="Order of the detections in the precision-recall curve: score, those of all scenes sorted by score; or frame, one "
        "scene after the other, as early evaluations on OPV2V had them."
    ),
]
OutArg = Annotated[Path | None, typer.Option(help="JSON file for the scores. Default: they are only printed.")]


def score(
    context: typer.Context,
    folder: FolderArg,
    range_m: RangeArg = None,
    iou: IouArg = USUAL_IOU,
    order: OrderArg = "score",
    out: OutArg = None,
) -> None:
    """Score the saved detections of an evaluation again.

    With the same range, thresholds and order, the AP is that of the evaluation to the last bit.
    """
    runs, evaluated = read_scenes(folder), _Evaluated.read(folder)
    rule = ScoreRule(_thresholds(iou), _order(order), evaluated.narrowed(range_m), evaluated.use_z)
    results = {name: rule.score(run) for name, run in runs.items() if run.boxes is not None}
    if not results:
        raise UserError(f"{folder / SCENES_NAME}: holds no boxes; evaluate again with --save-detections")
    title = f"{evaluated.made_by.scenes.source}, {evaluated.made_by.scenes.split}"
    console.print(scores_table(results, rule, title, range_m or evaluated.range_m))
    if out is not None:
        made_by = MadeBy.of(context, evaluated.made_by.alliance, evaluated.made_by.scenes)
        write_json(out, {**scores_record(results, rule, range_m or evaluated.range_m), MADE_BY: to_plain(made_by)})
        console.print(f"numbers: {out}")


@dataclass(frozen=True)
class ScoreRule:
    """How detections are scored.

    Attributes:
        iou_thresholds: the least overlaps that find an object.
        order: of the detections in the precision-recall curve.
        range_m: x, y, z of the lower and of the upper corner of a range, metres in the ego's frame; boxes that are not wholly
            inside do not count. None to count every box.
        use_z: whether objects must lie in the range in height too, as detections must.
    """

    iou_thresholds: tuple[float, ...]
    order: ApOrder
    range_m: Range | None
    use_z: bool

    def score(self, run: SceneMatches) -> ApResult:
        """Match the boxes of a run again, and compute average precision."""
        matches = []
        for found, truth in run.scenes():
            if self.range_m is not None:
                found = found.select(corners_within_range(found.corners, self.range_m))
                truth = truth.select(corners_within_range(truth.corners, self.range_m, self.use_z))
            matches.append(match_frame(found, truth, self.iou_thresholds))
        return average_precision(matches, self.iou_thresholds, self.order)


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
        raise UserError(f"--iou {text!r}: expected numbers above 0 and at most 1, separated by commas, such as 0.5,0.7")
    return thresholds


def _order(name: str) -> ApOrder:
    """Read the order of detections; UserError for an unknown one."""
    orders: dict[str, ApOrder] = {order: order for order in get_args(ApOrder)}
    if name not in orders:
        raise UserError(f"--order: expected {' or '.join(orders)}, got {name!r}")
    return orders[name]


def scores_table(results: Mapping[str, ApResult], rule: ScoreRule, title: str, range_m: Sequence[float]) -> Table:
    """Make a table with one row for each run."""
    aps = [f"AP@{threshold:g}" for threshold in rule.iou_thresholds]
    table = Table("run", *aps, "detections", "objects", "frames", title=title)
    for name, result in results.items():
        table.add_row(name, *map(ap_text, result.ap.values()), *map(str, (result.detections, result.ground_truths, result.frames)))
    table.caption = f"{AP_RULES[rule.order]}; range {', '.join(f'{edge:g}' for edge in range_m)} m"
    return table


def scores_record(results: Mapping[str, ApResult], rule: ScoreRule, range_m: Sequence[float]) -> dict[str, Any]:
    """Return the scores as plain values, with the rule."""
    runs = {
        name: {
            "ap": plain_ap(result),
            "detections": result.detections,
            "ground_truths": result.ground_truths,
            "frames": result.frames,
        }
        for name, result in results.items()
    }
    return {"runs": runs, "rule": AP_RULES[rule.order], "range_m": list(range_m), "use_z": rule.use_z}
