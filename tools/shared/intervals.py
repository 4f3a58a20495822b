"""Differences of AP between two runs over the same scenes, with 90% intervals.

The intervals are those of a paired bootstrap: towns (scenarios, recordings) are drawn with replacement, as many as there are, and
each draw gives a difference. Scenes of one town resemble each other, so that the towns and not the scenes are drawn, unless frames
are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from rich.table import Table

from heal.detection.metrics import IOU_THRESHOLDS, NOT_AVAILABLE, IouKind, Rule
from heal.errors import UserError
from heal.measures.matches import SceneMatches
from heal.measures.measure import Measure
from heal.measures.precision import resampled_precision
from heal.seeding import keyed_generator
from heal.types import Float64, Int64

DRAWS = 1000
LEVEL = 0.9
FEW_GROUPS = 8  # with fewer towns an interval means little
Unit = Literal["frame", "group"]


@dataclass(frozen=True)
class Interval:
    """A difference of AP with its interval.

    Attributes:
        difference: over all scenes; None if there is no object.
        low: lower end of the interval; None with fewer than two groups or frames, or without objects.
        high: upper end.
    """

    difference: float | None
    low: float | None = None
    high: float | None = None

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def __str__(self) -> str:
        """Return the numbers with their signs and three decimals."""
        if self.difference is None:
            return NOT_AVAILABLE
        ends = "" if self.low is None or self.high is None else f" [{self.low:+.3f}, {self.high:+.3f}]"
        return f"{self.difference:+.3f}{ends}"


@dataclass(frozen=True)
class Comparison:
    """The AP of a run minus that of another run over the same scenes.

    Attributes:
        run: name of the run.
        other: name of the other run.
        scenes: number of scenes.
        groups: number of towns, scenarios or recordings that were drawn.
        ap: the differences, in the order of `IOU_THRESHOLDS`.
    """

    run: str
    other: str
    scenes: int
    groups: int
    ap: tuple[Interval, ...]

    def record(self) -> dict[str, Any]:
        """Return the comparison as an entry of metrics.json."""
        intervals = zip(IOU_THRESHOLDS, self.ap, strict=True)
        ap = {str(threshold): {"difference": one.difference, "low": one.low, "high": one.high} for threshold, one in intervals}
        return {"run": self.run, "other": self.other, "scenes": self.scenes, "groups": self.groups, "level": LEVEL, "ap": ap}


def compare(
    run: tuple[str, SceneMatches], other: tuple[str, SceneMatches], rule: Rule = "global", iou: IouKind = "bev"
) -> Comparison:
    """Compare two runs, each given by its name and its matches, by a rule and an overlap; UserError if their scenes differ."""
    (name, ours), (other_name, theirs) = run, other
    _require_same_objects(name, ours, other_name, theirs)
    measures = [Measure(threshold, rule, iou) for threshold in IOU_THRESHOLDS]
    differences = tuple(paired_difference([ours], [theirs], measure, "group") for measure in measures)
    return Comparison(name, other_name, len(ours.scene_ids), len({*ours.groups.tolist()}), differences)


def paired_difference(
    ours: Sequence[SceneMatches], theirs: Sequence[SceneMatches], measure: Measure, unit: Unit = "frame"
) -> Interval:
    """Compute the mean AP of some runs minus that of others, with its interval.

    Args:
        ours: the runs, such as one for each seed of a training, all over the same scenes.
        theirs: the runs that are compared with; their number may be another one.
        measure: the measure.
        unit: what is drawn with replacement, the same for all runs: single frames, or groups (`SceneMatches.groups`).

    Raises:
        UserError: the runs are over other scenes or objects.
    """
    first, *others = [*ours, *theirs]
    for number, run in enumerate(others, 2):
        _require_same_objects("run 1", first, f"run {number}", run)
    names = first.groups if unit == "group" else np.arange(len(first.scene_ids))
    unique, unit_of_scene = np.unique(names, return_inverse=True)
    counts = np.concatenate([np.ones((1, len(unique)), np.int64), _draw(len(unique))])
    means = [np.mean([resampled_precision(run, measure, unit_of_scene, counts) for run in runs], axis=0) for runs in (ours, theirs)]
    return _interval(means[0] - means[1])


def _require_same_objects(name: str, ours: SceneMatches, other: str, theirs: SceneMatches) -> None:
    """Raise UserError unless two runs are over the same scenes with as many objects."""
    require_same_scenes(name, ours.scene_ids.tolist(), other, theirs.scene_ids.tolist())
    if (ours.objects != theirs.objects).any():
        i = int(np.flatnonzero(ours.objects != theirs.objects)[0])
        raise UserError(
            f"{name} cannot be compared with {other}: scene {ours.scene_ids[i]} has {ours.objects[i]} objects in the one and "
            f"{theirs.objects[i]} in the other; evaluate both on the same data with the same range"
        )


def require_same_scenes(name: str, scenes: Sequence[str], other: str, others: Sequence[str]) -> None:
    """Raise UserError, naming a few scenes, unless two runs are over the same scenes in the same order."""
    if list(scenes) == list(others):
        return
    missing, more = (sorted(set(a) - set(b)) for a, b in ((others, scenes), (scenes, others)))
    parts = [f"{len(part)} only in {of}, such as {', '.join(part[:3])}" for of, part in ((other, missing), (name, more)) if part]
    raise UserError(
        f"{name} cannot be compared with {other}: expected the same scenes, got "
        f"{'; '.join(parts) or 'another order'}; evaluate the same split with the same --frames"
    )


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Make a table with one row for each comparison, and the number of groups in its caption."""
    table = Table("run", "minus", *(f"AP@{threshold}" for threshold in IOU_THRESHOLDS[1:]), title="differences of AP")
    for one in comparisons:
        table.add_row(one.run, one.other, *(str(interval) for interval in one.ap[1:]))
    groups = min(one.groups for one in comparisons)
    table.caption = f"in brackets {LEVEL:.0%} intervals: {DRAWS} draws of {groups} towns, scenarios or recordings, with replacement"
    if groups < FEW_GROUPS:
        few = f"with so few (fewer than {FEW_GROUPS}) an interval means little" if groups > 1 else "one alone gives no interval"
        table.caption = f"{table.caption}; {few}"
    return table


def _draw(units: int) -> Int64:
    """Draw `units` units with replacement, `DRAWS` times; (B, U) how often each was drawn; no draws of fewer than two units."""
    draws = DRAWS if units > 1 else 0
    return keyed_generator(0, "intervals", units).multinomial(units, np.full(units, 1 / units), draws)


def _interval(differences: Float64) -> Interval:
    """Return the interval of a difference: of all scenes, followed by those of the draws; draws without objects do not count."""
    first, draws = differences[0], differences[1:][~np.isnan(differences[1:])]
    if np.isnan(first) or not len(draws):
        return Interval(None if np.isnan(first) else float(first))
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(first), float(low), float(high))
