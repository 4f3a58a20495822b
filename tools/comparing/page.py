"""The report of a comparison: one HTML file that loads nothing from elsewhere, with tables, figures, failures and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from heal.atomic_write import write_text
from heal.config import to_plain
from heal.detection.metrics import AP_RULE
from heal.measures.measure import Measure
from heal.tools.comparing.costs import MethodCosts
from heal.tools.comparing.figures import Figure, figures_of
from heal.tools.comparing.measured import BREAKDOWNS, COMPARED, MAIN, RULES, minus, parts, precision
from heal.tools.comparing.results import Results
from heal.tools.report.colors import COLORS
from heal.tools.report.page import shown_rows
from heal.tools.report.template import page_template
from heal.tools.shared.intervals import LEVEL, Interval
from heal.tools.shared.made_by import MadeBy

REPORT_NAME = "report.html"


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: above it.
        note: what has to be known about the numbers.
        headings: of the columns; the first is that of the names.
        rows: the texts of each row, and whether the row stands out.
    """

    title: str
    note: str
    headings: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], bool], ...]


@dataclass(frozen=True)
class DataSection:
    """The results on one data set."""

    name: str
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class ComparePage:
    """What the template shows, from top to bottom.

    Attributes:
        title: heading of the page.
        lead: what was compared, in plain words.
        sections: the results, by data set.
        failures: what has failed, and why.
        made_by: (name, value) of what made the report.
        settings: (name, value) of what the comparison's file sets.
    """

    title: str
    lead: tuple[str, ...]
    sections: tuple[DataSection, ...]
    failures: tuple[tuple[str, str], ...]
    made_by: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, str], ...]


def write_page(results: Results, made_by: MadeBy, path: Path) -> None:
    """Write the report of a comparison."""
    write_text(path, render(page_of(results, made_by)))


def render(page: ComparePage) -> str:
    """Return the HTML of a page; the template escapes every text."""
    return page_template("compare.html.j2", "heal.tools.comparing").render(page=page, colors=COLORS)


def page_of(results: Results, made_by: MadeBy) -> ComparePage:
    """Return what the report of a comparison shows."""
    spec = results.spec
    sections = (DataSection(data, tuple(_tables(results, data)), tuple(figures_of(results, data))) for data in spec.data)
    return ComparePage(
        spec.title,
        _lead(results),
        tuple(sections),
        tuple(results.failures.items()),
        shown_rows(to_plain(made_by)),
        tuple((name, text) for name, text in shown_rows(to_plain(spec)) if text != "none"),
    )


def _lead(results: Results) -> tuple[str, ...]:
    """Return what was compared, how, and how far the numbers go, in plain words."""
    spec = results.spec
    methods, types = ", ".join(map(results.title, spec.methods)), ", ".join(spec.types)
    seeds = ", ".join(map(str, spec.seeds))
    return (
        f"{len(spec.methods)} methods ({methods}) with the agent types {types} on {', '.join(spec.data)}; "
        f"every method is trained with the seeds {seeds}, and evaluated under: {', '.join(spec.conditions)}.",
        "All methods have the same data, types, seeds and rules of the evaluation, and the schedules of the file; what a method "
        "changes of them stands in the settings below. "
        "Aligned: the base is trained with the first type, every further type joins it alone while it is frozen. "
        "Joint: all types are trained together with the base.",
        f"AP: {AP_RULE}. Numbers are means over the seeds ± standard deviation. "
        f"Differences are to {results.title(spec.against)}, with {LEVEL:.0%} intervals of a paired bootstrap over frames, which "
        "all seeds share; a bold row differs clearly in AP@0.7: its interval leaves out zero. The intervals hold for these trained "
        "networks: the spread over seeds is not in them, nor that frames of one recording resemble each other. Seconds are of this "
        "machine, and only their ratios mean something.",
    )


def _tables(results: Results, data: str) -> list[Table]:
    first = next(iter(results.spec.conditions))
    tables = [_main_table(results, data, condition) for condition in results.spec.conditions]
    tables += [_rules_table(results, data, first)]
    tables += [table for kind in BREAKDOWNS if (table := _part_table(results, data, first, kind)) is not None]
    return [*tables, _costs_table(results, data)]


def _main_table(results: Results, data: str, condition: str) -> Table:
    """Make the table of a condition: AP at all thresholds, the differences, and the bytes of a message."""
    against = results.title(results.spec.against)
    headings = (*map(str, MAIN), *(f"{measure} minus {against}" for measure in COMPARED), "bytes of a message", "seeds")
    differences = {method: _differences(results, data, condition, method) for method in results.present(data, condition)}
    rows = tuple(_main_row(results, data, condition, method, found) for method, found in differences.items())
    last = {results.title(method): found[-1] for method, found in differences.items() if found}
    return Table(f"{data}, {condition}", _order(last, against), ("method", *headings), rows)


def _differences(results: Results, data: str, condition: str, method: str) -> list[Interval]:
    """Return the differences of a method to the one that all are compared with, for each measure; [] if there are none."""
    against, runs = results.of(data, condition, results.spec.against), results.of(data, condition, method)
    # Without a seed of the one or the other, the difference would be one of seeds.
    if method == results.spec.against or [run.seed for run in runs] != [run.seed for run in against]:
        return []
    ours, theirs = [run.matches for run in runs], [run.matches for run in against]
    return [minus(ours, theirs, measure) for measure in COMPARED]


def _main_row(
    results: Results, data: str, condition: str, method: str, differences: Sequence[Interval]
) -> tuple[tuple[str, ...], bool]:
    """Return the texts of a method under a condition, and whether it differs clearly from the one that all are compared with."""
    runs = results.of(data, condition, method)
    size = f"{sum(run.bytes_per_message for run in runs) / len(runs):,.0f}"
    shown = [str(difference) for difference in differences] or ["-"] * len(COMPARED)
    texts = (results.title(method), *_cells(results, data, condition, method, MAIN), *shown, size, str(len(runs)))
    return texts, bool(differences) and differences[-1].is_clear


def _order(differences: Mapping[str, Interval], against: str) -> str:
    """Say which methods are ahead of the one that all are compared with, the best first, and which of them clearly."""
    best_first = sorted(differences.items(), key=lambda item: -(item[1].difference or 0.0))
    ahead = [name + (", clearly" if found.is_clear else "") for name, found in best_first if (found.difference or 0.0) > 0]
    return f"Ahead of {against} in {COMPARED[-1]}: {'; '.join(ahead) or 'no method'}."


def _cells(results: Results, data: str, condition: str, method: str, measures: Sequence[Measure]) -> list[str]:
    matches = results.matches(data, condition, method)
    return [precision(matches, measure).text() for measure in measures]


def _rules_table(results: Results, data: str, condition: str) -> Table:
    methods = results.present(data, condition)
    rows = (((results.title(method), *_cells(results, data, condition, method, RULES)), False) for method in methods)
    note = "per_frame: detections in the order of the frames, as older evaluations have them; 3d: boxes overlap in space."
    return Table(f"{data}, {condition}: other rules of AP", note, ("method", *map(str, RULES)), tuple(rows))


def _part_table(results: Results, data: str, condition: str, kind: str) -> Table | None:
    """Make the table of a breakdown; None unless there are several parts."""
    methods = results.present(data, condition)
    subsets = parts([run for method in methods for run in results.matches(data, condition, method)], kind)
    if len(subsets) < 2:
        return None
    measures = {
        f"{name}, {threshold:g}": Measure(threshold, subset=subset) for name, subset in subsets.items() for threshold in (0.5, 0.7)
    }
    rows = (((results.title(method), *_cells(results, data, condition, method, [*measures.values()])), False) for method in methods)
    return Table(f"{data}, {condition}: AP by {BREAKDOWNS[kind]}", "", ("method", *measures), tuple(rows))


def _costs_table(results: Results, data: str) -> Table:
    """Make the table of costs."""
    costs = {method: results.costs[data, method] for method in results.spec.methods if (data, method) in results.costs}
    against = costs.get(results.spec.against)
    rows = tuple(((results.title(method), *_cost_cells(cost, against)), False) for method, cost in costs.items())
    note = _savings(results, data, costs) + (
        "Trained: the parameters that are trained when the last type joins; in all joins, one type after the other; and if all "
        "further types come together. Where all types are trained together, everything so far is trained anew with every type. "
        "Operations and seconds are of a frame with its agents, and of all trainings of a seed; times are ratios to "
        f"{results.title(results.spec.against)}, in brackets seconds on this machine."
    )
    trained = "trained at the last join", "trained one by one", "trained at once"
    headings = ("method", "parameters", *trained, "GFLOP of a frame", "a frame", "training", "training to join")
    return Table(f"{data}: costs", note, headings, rows)


def _savings(results: Results, data: str, costs: Mapping[str, MethodCosts]) -> str:
    """Return how many parameters less are trained when types join one after the other than by joint training; "" without both."""
    condition, ours = next(iter(results.spec.conditions)), costs.get(results.spec.against)
    joint = [method for method in costs if results.spec.methods[method].join == "joint" and method != results.spec.against]
    if ours is None or not joint:
        return ""
    strongest = max(joint, key=lambda method: precision(results.matches(data, condition, method), Measure(0.7)).mean or 0.0)
    own, theirs = ours.parameters, costs[strongest].parameters
    return (
        f"{results.title(results.spec.against)} against {results.title(strongest)}, the strongest of the methods that train all "
        f"types together: {_less(own.at_last, theirs.at_last)} parameters trained at the last join, "
        f"{_less(own.one_by_one, theirs.one_by_one)} in all joins, {_less(own.at_once, theirs.at_once)} if all come together. "
    )


def _less(own: int, other: int) -> str:
    return f"{1 - own / other:.1%} less" if own <= other else f"{own / other - 1:.1%} more"


def _cost_cells(cost: MethodCosts, against: MethodCosts | None) -> list[str]:
    counted, own = cost.parameters, cost.numbers()
    theirs = {} if against is None else against.numbers()
    times = [_ratio(own[name], theirs.get(name)) for name in ("frame_s", "training_s", "joining_s")]
    sizes = (counted.in_all, counted.at_last, counted.one_by_one, counted.at_once)
    return [*(f"{size:,}" for size in sizes), f"{cost.frame.gflop:.2f}", *times]


def _ratio(value: float, reference: float | None) -> str:
    seconds = f"{value:.3g} s"
    return f"{value / reference:.2f} ({seconds})" if reference else f"({seconds})"
