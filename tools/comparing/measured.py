"""What a comparison measures of kept matches: the measures, their mean over seeds, and differences with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from heal.measures.breakdown import subsets_of
from heal.measures.matches import MATCHES_VERSION, SceneMatches
from heal.measures.measure import Measure, Subset
from heal.measures.precision import average_precision
from heal.tools.shared.intervals import Interval, paired_difference

MEASURED_VERSION = MATCHES_VERSION
THRESHOLDS = (0.3, 0.5, 0.7)
MAIN = tuple(Measure(threshold) for threshold in THRESHOLDS)
COMPARED = (Measure(0.5), Measure(0.7))
RULES = (*(replace(one, rule="per_frame") for one in COMPARED), *(replace(one, iou="3d") for one in COMPARED))
# The breakdowns, by their key in `subsets_of`, and their titles.
BREAKDOWNS = {
    "distance": "distance from the ego",
    "visibility": "who sees the vehicle",
    "ego_type": "type of the ego",
    "ego_sensor": "sensors of the ego",
}


@dataclass(frozen=True)
class Spread:
    """A number over the seeds.

    Attributes:
        values: of each seed; None where it is not defined.
    """

    values: tuple[float | None, ...]

    @property
    def known(self) -> list[float]:
        """The values that are defined."""
        return [value for value in self.values if value is not None]

    @property
    def mean(self) -> float | None:
        """The mean over the seeds; None without a value."""
        return fmean(self.known) if self.known else None

    @property
    def deviation(self) -> float | None:
        """The standard deviation over the seeds; None with fewer than two values."""
        return stdev(self.known) if len(self.known) > 1 else None

    def text(self) -> str:
        """Return mean and deviation with three decimals."""
        if self.mean is None:
            return "-"
        return f"{self.mean:.3f}" if self.deviation is None else f"{self.mean:.3f} ± {self.deviation:.3f}"


def precision(runs: Sequence[SceneMatches], measure: Measure) -> Spread:
    """Return the average precision of a method's runs, one for each seed."""
    return Spread(tuple(average_precision(run, measure) for run in runs))


def minus(ours: Sequence[SceneMatches], theirs: Sequence[SceneMatches], measure: Measure) -> Interval:
    """Return the AP of a method minus that of another, with its interval over frames; both and all seeds have the same frames."""
    return paired_difference(ours, theirs, measure)


def all_measures(run: SceneMatches) -> dict[str, Measure]:
    """Return every measure of a run by its title."""
    parts = [Measure(0.0, subset=subset) for subsets in subsets_of(run).values() for subset in subsets.values()]
    broken = [Measure(threshold, subset=part.subset) for part in parts for threshold in (0.5, 0.7)]
    return {str(measure): measure for measure in (*MAIN, *RULES, *broken)}


def parts(runs: Sequence[SceneMatches], kind: str) -> Mapping[str, Subset]:
    """Return the subsets of a breakdown that hold a vehicle in a run, by their names."""
    found: dict[str, Subset] = {}
    for run in runs:
        found |= subsets_of(run)[kind]
    return found
