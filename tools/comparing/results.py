"""The results of a comparison, read from its folder: what every method found under every condition, and what it cost."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heal.atomic_write import write_text
from heal.measures.matches import SceneMatches
from heal.measures.precision import average_precision
from heal.tools.comparing.costs import MethodCosts
from heal.tools.comparing.evaluating import SCORE_NAME, is_done
from heal.tools.comparing.measured import MAIN, Spread, all_measures, precision
from heal.tools.comparing.spec import CompareSpec
from heal.tools.comparing.work import Workshop
from heal.tools.shared.scene_matches import read_scenes

RESULTS_NAME, COSTS_NAME = "results.csv", "costs.csv"


@dataclass(frozen=True)
class Run:
    """A method, trained with a seed, under a condition.

    Attributes:
        seed: of the trainings.
        matches: which detection found which vehicle.
        score: the numbers of the run, as in metrics.json.
    """

    seed: int
    matches: SceneMatches
    score: Mapping[str, Any]

    @property
    def bytes_per_message(self) -> float:
        """Mean length of a message that was sent over a link; 0 if none was."""
        return float(self.score["bytes_per_message"])


@dataclass(frozen=True)
class Results:
    """The results of a comparison.

    Attributes:
        spec: what was compared.
        runs: by data set, condition and method; a run for each seed that has one.
        costs: by data set and method.
        failures: what has failed, and why, one line each.
    """

    spec: CompareSpec
    runs: Mapping[tuple[str, str, str], tuple[Run, ...]]
    costs: Mapping[tuple[str, str], MethodCosts]
    failures: Mapping[str, str]

    def of(self, data: str, condition: str, method: str) -> tuple[Run, ...]:
        """Return the runs of a method; empty if all have failed."""
        return self.runs.get((data, condition, method), ())

    def matches(self, data: str, condition: str, method: str) -> list[SceneMatches]:
        """Return the matches of the runs of a method, one for each seed."""
        return [run.matches for run in self.of(data, condition, method)]

    def present(self, data: str, condition: str) -> list[str]:
        """Return the methods that have a run, in the order of the spec."""
        return [method for method in self.spec.methods if self.of(data, condition, method)]

    def title(self, method: str) -> str:
        """Return the name of a method for readers."""
        return self.spec.methods[method].title or method


def read_results(shop: Workshop, costs: Mapping[tuple[str, str], MethodCosts], failures: Mapping[str, str]) -> Results:
    """Read what is there of the evaluations of a comparison.

    Args:
        shop: the comparison in its folder.
        costs: of the methods, by data set and method.
        failures: why trainings and evaluations have failed, by key.
    """
    runs: dict[tuple[str, str, str], tuple[Run, ...]] = {}
    for entrant in shop.plan.entrants:
        for one in entrant.evaluations:
            if is_done(one, shop.evaluated):
                where = entrant.data, one.condition, entrant.method
                runs[where] = (*runs.get(where, ()), _read_run(shop.evaluated / one.key, entrant.seed))
    return Results(shop.plan.spec, runs, costs, dict(_failed(shop, failures)))


def _read_run(folder: Path, seed: int) -> Run:
    [matches] = read_scenes(folder).values()
    return Run(seed, matches, json.loads((folder / SCORE_NAME).read_text(encoding="utf-8")))


def _failed(shop: Workshop, failures: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield what has failed with its cause: trainings, and evaluations of methods whose trainings have not."""
    for key, training in shop.plan.trainings.items():
        if key in failures:
            yield training.title, failures[key]
    for entrant in shop.plan.entrants:
        if not failures.keys() & set(entrant.trainings):
            for one in entrant.evaluations:
                if one.key in failures:
                    yield f"{entrant.title}, {one.condition}", failures[one.key]


@dataclass(frozen=True)
class SummaryRow:
    """A method under a condition, in short.

    Attributes:
        data: name of the data set.
        condition: name of the condition.
        method: name of the method.
        ap: average precision over the seeds by threshold.
        seeds: number of seeds.
    """

    data: str
    condition: str
    method: str
    ap: dict[str, Spread]
    seeds: int

    def record(self) -> dict[str, Any]:
        """Return the row as an entry of compare.json."""
        ap = {name: {"mean": spread.mean, "deviation": spread.deviation} for name, spread in self.ap.items()}
        where = {"data": self.data, "condition": self.condition, "method": self.method}
        return {**where, "seeds": self.seeds, "ap": ap}


def summary(results: Results) -> list[SummaryRow]:
    """Return all methods under all conditions, in short."""
    rows = []
    for (data, condition, method), runs in results.runs.items():
        matches = [run.matches for run in runs]
        ap = {f"{measure.threshold:g}": precision(matches, measure) for measure in MAIN}
        rows.append(SummaryRow(data, condition, method, ap, len(runs)))
    return sorted(rows, key=lambda row: (row.data, list(results.spec.conditions).index(row.condition)))


def write_tables(results: Results, out: Path) -> None:
    """Write results.csv, with a row for each number of each run, and costs.csv, with a row for each method on each data set."""
    heading = ("method", "data", "condition", "seed", "measure", "value")
    write_text(out / RESULTS_NAME, _csv([heading, *_result_rows(results)]))
    costs = {where: cost.numbers() for where, cost in results.costs.items()}
    names = next(iter(costs.values()), {})
    rows = [(method, data, *map(_cell, numbers.values())) for (data, method), numbers in costs.items()]
    write_text(out / COSTS_NAME, _csv([("method", "data", *names), *rows]))


def _result_rows(results: Results) -> Iterator[tuple[str, ...]]:
    for (data, condition, method), runs in results.runs.items():
        for run in runs:
            where = method, data, condition, str(run.seed)
            for title, measure in all_measures(run.matches).items():
                yield (*where, title, _cell(average_precision(run.matches, measure)))
            yield (*where, "bytes per message", _cell(run.bytes_per_message))


def _cell(value: float | None) -> str:
    return "" if value is None else repr(value)


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
