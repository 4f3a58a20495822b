"""The results of a sweep: a row of numbers for each run, and their table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Column, Table

from heal.detection.metrics import NOT_AVAILABLE, ApResult, ap_text
from heal.errors import UserError
from heal.measures.precision import all_measures
from heal.tools.shared.intervals import compare
from heal.tools.sweeps.chunk import RunTotals
from heal.tools.sweeps.conditions import ALONE, Condition
from heal.tools.sweeps.lying import ABSENT

SHOWN = "0.5", "0.7"  # thresholds in the table of attacks


@dataclass(frozen=True)
class SweepRow:
    """The result of one run of a sweep.

    Attributes:
        series: label of the line in the figure that the run is a point of.
        x: position of the point on the x axis.
        name: label of the run in the table.
        ap: AP at IoU 0.3, 0.5 and 0.7, by threshold; None if there is no object.
        ready_ap: the same at the instants at which the results are ready; see `heal.tools.shared.ready_score`.
        age_ms: mean age in their tick of the fused maps that had come over a link; None if there were none.
        ready_age_ms: mean age of the same maps when the results are ready.
        bytes_per_message: mean size of a message over a link.
        used: share of these messages that the fusion node used in their own tick.
        held: number of older maps used in place of missing ones, per message.
        frames: number of evaluated ticks.
        ready_frames: number of ticks that are evaluated in `ready_ap`, which leaves out the last ones of each recording.
        guard: what became of the ego's confident boxes, as in metrics.json; None if no tick had the ego's map.
        measures: AP by both rules and both overlaps, as in metrics.json.
        minus_alone: AP minus that of the ego alone with 90% intervals, as in metrics.json; None if the runs have other objects.
        rejected: share of the messages over links that the fusion node has rejected, in their own tick or later.
    """

    series: str
    x: float
    name: str
    ap: dict[str, float | None]
    ready_ap: dict[str, float | None]
    age_ms: float | None
    ready_age_ms: float | None
    bytes_per_message: float
    used: float
    held: float
    frames: int
    ready_frames: int
    guard: dict[str, Any] | None = None
    measures: dict[str, Any] = field(default_factory=dict)
    minus_alone: dict[str, Any] | None = None
    rejected: float = 0.0


def make_row(condition: Condition, total: RunTotals, alone: RunTotals) -> SweepRow:
    """Make the row of a run from its totals and those of the ego alone."""
    counts, results, ready = total.counts, total.ap.results(), total.ready.results()
    size = counts.bytes_per_message
    return SweepRow(
        series=condition.series,
        x=size if condition.x is None else condition.x,
        name=condition.name,
        ap=_rounded(results),
        ready_ap=_rounded(ready),
        age_ms=_mean(total.ages_ms),
        ready_age_ms=_mean(total.ready_ages_ms),
        bytes_per_message=round(size),
        used=round(counts.used / max(counts.sent, 1), 4),
        held=round(total.held / max(counts.sent, 1), 4),
        frames=results.frames,
        ready_frames=ready.frames,
        guard=total.guard.metrics(),
        measures=_measures(total),
        minus_alone=_minus_alone(condition, total, alone),
        rejected=round(total.rejected / max(counts.sent, 1), 4),
    )


def _minus_alone(condition: Condition, total: RunTotals, alone: RunTotals) -> dict[str, Any] | None:
    """Return the comparison of a run with the ego alone; None if the runs have other objects, as regions have."""
    try:
        comparison = compare((condition.name, total.matches()), (ALONE, alone.matches()))
    except UserError:
        return None
    differences: dict[str, Any] = comparison.record()["ap"]
    return differences


def _measures(total: RunTotals) -> dict[str, Any]:
    """Return AP by overlap, rule and threshold, with four decimals."""
    return {
        iou: {rule: {key: None if ap is None else round(ap, 4) for key, ap in aps.items()} for rule, aps in rules.items()}
        for iou, rules in all_measures(total.matches()).items()
    }


def _rounded(results: ApResult) -> dict[str, float | None]:
    return {f"{threshold:g}": None if value is None else round(value, 4) for threshold, value in results.ap.items()}


def _mean(ages_ms: Sequence[float]) -> float | None:
    return round(sum(ages_ms) / len(ages_ms), 1) if ages_ms else None


def sweep_table(rows: Sequence[SweepRow], kind: str) -> Table:
    """Make a table with one line for each run."""
    if kind == "attacks":
        return _attacks_table(rows)
    headings = ("map\nage,\nms", "AP@0.3", "AP@0.5", "AP@0.7", "when\nready", "kB", "used,\nheld")
    table = Table(Column(overflow="fold", min_width=9), *headings, title=f"sweep of {kind}")
    for row in rows:
        age, ap = "-" if row.age_ms is None else f"{row.age_ms:.0f}", [ap_text(value) for value in row.ap.values()]
        ready = " / ".join(ap_text(value) for value in row.ready_ap.values())
        table.add_row(row.name, age, *ap, ready, f"{row.bytes_per_message / 1e3:.1f}", f"{row.used:.0%}, {row.held:.0%}")
    return table


def _attacks_table(rows: Sequence[SweepRow]) -> Table:
    """Make a table of lies: AP@0.5 and AP@0.7 under each series, and of the last the difference to a silent sender."""
    series = list(dict.fromkeys(row.series for row in rows if row.series != ALONE))
    table = Table(
        Column(overflow="fold", min_width=24), *series, "minus\nabsent", "rejected", title="sweep of attacks, AP@0.5 / AP@0.7"
    )
    table.add_row(ALONE, *[_pair(rows[0])] * len(series), "", "")
    own = [{row.name.removesuffix(f", {name}"): row for row in rows if row.series == name} for name in series]
    for name, row in own[-1].items():
        absent = own[-1].get(f"{ABSENT}, {name.rpartition(', ')[2]}")
        minus = "" if absent is None else " / ".join(_difference(row.ap[key], absent.ap[key]) for key in SHOWN)
        table.add_row(name, *(_pair(other[name]) for other in own), minus, f"{row.rejected:.1%}")
    return table


def _pair(row: SweepRow) -> str:
    return " / ".join(ap_text(row.ap[key]) for key in SHOWN)


def _difference(mine: float | None, other: float | None) -> str:
    return NOT_AVAILABLE if mine is None or other is None else f"{mine - other:+.3f}"
