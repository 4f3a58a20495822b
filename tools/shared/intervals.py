"""Differences of AP between two runs over the same scenes, with 90% intervals.

The intervals are those of a paired bootstrap: towns (scenarios, recordings) are drawn with replacement, as many as there are, and
each draw gives a difference. Scenes of one town resemble each other, so that the towns and not the scenes are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from heal.detection.metrics import IOU_THRESHOLDS, NOT_AVAILABLE
from heal.errors import UserError
from heal.seeding import keyed_generator
from heal.tools.shared.scene_matches import SceneMatches
from heal.types import Float64

DRAWS = 1000
LEVEL = 0.9
FEW_GROUPS = 8  # with fewer towns an interval means little
_CELLS = 4_000_000  # of an array, so that the draws need some hundred MB at most


@dataclass(frozen=True)
class Interval:
    """A difference of AP with its interval.

    Attributes:
        difference: over all scenes; None if there is no object.
        low: lower end of the interval; None with fewer than two groups, or without objects.
        high: upper end.
    """

    difference: float | None
    low: float | None = None
    high: float | None = None

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


def compare(run: tuple[str, SceneMatches], other: tuple[str, SceneMatches]) -> Comparison:
    """Compare two runs, each given by its name and its matches; UserError if their scenes differ."""
    (name, ours), (other_name, theirs) = run, other
    require_same_scenes(name, ours.scene_ids.tolist(), other_name, theirs.scene_ids.tolist())
    if (ours.objects != theirs.objects).any():
        i = int(np.flatnonzero(ours.objects != theirs.objects)[0])
        raise UserError(
            f"{name} cannot be compared with {other_name}: scene {ours.scene_ids[i]} has {ours.objects[i]} objects in the one and "
            f"{theirs.objects[i]} in the other; evaluate both on the same data with the same range"
        )
    names, group_of_scene = np.unique(ours.groups, return_inverse=True)
    counts = np.concatenate([np.ones((1, len(names)), np.int64), _draw(len(names))])
    differences = resampled_ap(ours, group_of_scene, counts) - resampled_ap(theirs, group_of_scene, counts)
    return Comparison(name, other_name, len(ours.scene_ids), len(names), tuple(_interval(column) for column in differences.T))


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


def resampled_ap(run: SceneMatches, group_of_scene: Sequence[int] | np.ndarray, counts: np.ndarray) -> Float64:
    """Compute AP over groups of scenes that count several times or not at all.

    Args:
        run: the matches of S scenes.
        group_of_scene: (S,) index of the group of each scene.
        counts: (B, G) how often each group counts in each draw.

    Returns:
        (B, T) AP as `average_precision` computes it from the scenes so repeated, up to the order of equal scores; NaN without
        objects.
    """
    order = np.argsort(-run.scores, kind="stable")
    group = np.repeat(group_of_scene, run.detections)[order]
    flags = run.true_positive[:, order]
    objects = counts @ np.bincount(group_of_scene, run.objects, minlength=counts.shape[1])
    step = max(1, _CELLS // max(len(group), 1))
    ap = np.concatenate([_areas(counts[at : at + step, group], flags) for at in range(0, len(counts), step)])
    with np.errstate(invalid="ignore"):
        return np.where(objects[:, None] > 0, ap / objects[:, None], np.nan)


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


def _draw(groups: int) -> np.ndarray:
    """Draw `groups` groups with replacement, `DRAWS` times; (B, G) how often each was drawn; no draws of fewer than two groups."""
    draws = DRAWS if groups > 1 else 0
    return keyed_generator(0, "intervals", groups).multinomial(groups, np.full(groups, 1 / groups), draws)


def _areas(weights: np.ndarray, flags: np.ndarray) -> Float64:
    """Return the areas (B, T) under the curves of precision over the number of found objects.

    Args:
        weights: (B, K) how often each detection counts, best first.
        flags: (T, K) whether the detection found an object.
    """
    seen = np.maximum(np.cumsum(weights, axis=1), 1)
    areas = []
    for flag in flags:
        hits = np.flatnonzero(flag)
        found = weights[:, hits]
        precision = np.cumsum(found, axis=1) / seen[:, hits]
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        areas.append((found * best).sum(axis=1))
    return np.stack(areas, axis=1)


def _interval(differences: Float64) -> Interval:
    """Return the interval of a difference: of all scenes, followed by those of the draws; draws without objects do not count."""
    first, draws = differences[0], differences[1:][~np.isnan(differences[1:])]
    if np.isnan(first) or not len(draws):
        return Interval(None if np.isnan(first) else float(first))
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(first), float(low), float(high))
