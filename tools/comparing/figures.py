"""The figures of a comparison's report, drawn by matplotlib as SVG that stands inside the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from heal.measures.measure import Measure
from heal.tools.comparing.measured import BREAKDOWNS, Spread, parts, precision
from heal.tools.comparing.results import Results
from heal.tools.report.charts import FONT, FONT_PT, inline_svg
from heal.tools.report.colors import COLORS, LIGHT_AGENT_COLORS

WIDTH_PT, LINE_PT, PLOT_PT = 1030.0, 26.0, 330.0
_SERIES = ("accent", "orange")
_LINES = (*(f"agent{i}" for i in range(len(LIGHT_AGENT_COLORS))), "green", "red", "pink", "gray")
_MARKERS = "osD^vP"


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        title: text above it.
        svg: the `<svg>` element.
    """

    title: str
    svg: str


def figures_of(results: Results, data: str) -> list[Figure]:
    """Return the figures of a data set: AP by method, against bytes and pose noise, and by the parts of the first condition."""
    first = next(iter(results.spec.conditions))
    methods = results.present(data, first)
    if not methods:
        return []
    found = [_by_method(results, data, first, methods), _against_bytes(results, data, methods)]
    if noisy := {name: one.x for name, one in results.spec.conditions.items() if one.x is not None}:
        found += [_against_noise(results, data, noisy)] if len(noisy) > 1 else []
    for kind, title in BREAKDOWNS.items():
        names = list(parts([run for method in methods for run in results.matches(data, first, method)], kind))
        found += [_by_part(results, data, first, kind, title, names)] if len(names) > 1 else []
    return found


def _by_method(results: Results, data: str, condition: str, methods: Sequence[str]) -> Figure:
    """Draw AP@0.5 and AP@0.7 of every method as bars, with the standard deviation over the seeds."""
    with _drawn(60 + LINE_PT * len(methods)) as (axes, drawn):
        for number, threshold in enumerate((0.5, 0.7)):
            spreads = [precision(results.matches(data, condition, method), Measure(threshold)) for method in methods]
            places = [place + 0.36 * number for place in range(len(methods))]
            axes.barh(
                places,
                [spread.mean or 0.0 for spread in spreads],
                0.34,
                xerr=[spread.deviation or 0.0 for spread in spreads],
                color=_color(_SERIES[number]),
                ecolor=_color("faint"),
                label=f"AP@{threshold}",
            )
        axes.set_yticks([place + 0.18 for place in range(len(methods))], [results.title(method) for method in methods])
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        _legend(axes)
    return Figure(f"AP by method, {condition}; the lines are the standard deviation over the seeds", drawn[0])


def _against_bytes(results: Results, data: str, methods: Sequence[str]) -> Figure:
    """Draw AP@0.7 against the bytes of a message, a point for each method and condition."""
    with _drawn(PLOT_PT) as (axes, drawn):
        for method, look in zip(results.spec.methods, _looks(), strict=False):
            points = _byte_points(results, data, method)
            if points and method in methods:
                axes.plot(*zip(*points, strict=True), linestyle="none", label=results.title(method), **look)
        axes.set_xscale("symlog", linthresh=100)
        axes.set_xlabel("bytes of a message, as sent", **_text())
        axes.set_ylabel("AP@0.7", **_text())
        _legend(axes)
    return Figure("AP@0.7 against bytes, a point for each condition", drawn[0])


def _byte_points(results: Results, data: str, method: str) -> list[tuple[float, float]]:
    """Return bytes of a message and AP@0.7, means over the seeds, of every condition."""
    points = []
    for condition in results.spec.conditions:
        runs = results.of(data, condition, method)
        mean = precision([run.matches for run in runs], Measure(0.7)).mean
        if runs and mean is not None:
            points.append((sum(run.bytes_per_message for run in runs) / len(runs), mean))
    return points


def _against_noise(results: Results, data: str, noisy: Mapping[str, float]) -> Figure:
    """Draw AP@0.7 of every method against the spread of the pose error."""
    conditions = sorted(noisy, key=lambda name: noisy[name])
    series = {
        method: {noisy[name]: precision(results.matches(data, name, method), Measure(0.7)) for name in conditions}
        for method in results.spec.methods
    }
    with _drawn(PLOT_PT) as (axes, drawn):
        _plot_lines(axes, results, series)
        axes.set_xlabel("spread of the pose error, m and degrees", **_text())
        axes.set_ylabel("AP@0.7", **_text())
        _legend(axes)
    return Figure("AP@0.7 against the error of the poses", drawn[0])


def _by_part(results: Results, data: str, condition: str, kind: str, title: str, names: Sequence[str]) -> Figure:
    """Draw AP@0.5 of every method over the parts of a breakdown."""
    series = {}
    for method in results.present(data, condition):
        runs = results.matches(data, condition, method)
        known = parts(runs, kind)
        series[method] = {
            float(place): precision(runs, Measure(0.5, subset=known[name])) for place, name in enumerate(names) if name in known
        }
    with _drawn(PLOT_PT) as (axes, drawn):
        _plot_lines(axes, results, series)
        axes.set_xticks(range(len(names)), names)
        axes.set_ylabel("AP@0.5", **_text())
        _legend(axes)
    return Figure(f"AP@0.5 by {title}, {condition}", drawn[0])


def _plot_lines(axes: Any, results: Results, series: Mapping[str, Mapping[float, Spread]]) -> None:
    """Draw a line for each method."""
    for (method, spreads), look in zip(series.items(), _looks(), strict=False):
        known = [(x, spread.mean) for x, spread in spreads.items() if spread.mean is not None]
        if known:
            axes.plot(*zip(*known, strict=True), label=results.title(method), **look)


def _looks() -> Iterator[dict[str, Any]]:
    """Yield the look of one method after the other: a colour and a marker, none of which come together twice."""
    for number in range(len(_LINES) * len(_MARKERS)):
        marker = _MARKERS[(number + number // len(_LINES)) % len(_MARKERS)]
        yield {"color": _color(_LINES[number % len(_LINES)]), "marker": marker, "linewidth": 1.5, "markersize": 6}


@contextmanager
def _drawn(height_pt: float) -> Iterator[tuple[Any, list[str]]]:
    """Give axes to draw on, and a list that holds the SVG afterwards."""
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(WIDTH_PT / 72, height_pt / 72), dpi=72, facecolor="none", layout="constrained")
    axes, drawn = drawing.add_subplot(facecolor="none"), list[str]()
    axes.tick_params(labelcolor=_color("ink"), labelsize=FONT_PT, labelfontfamily=FONT, left=False, bottom=False)
    axes.spines[:].set_visible(False)
    axes.grid(color=_color("edge"), linewidth=1)
    axes.set_axisbelow(True)
    yield axes, drawn
    drawn.append(inline_svg(drawing))


def _legend(axes: Any) -> None:
    axes.legend(
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
        labelcolor=_color("ink"),
        prop={"family": FONT, "size": FONT_PT},
    )


def _text() -> dict[str, Any]:
    return {"color": _color("faint"), "fontsize": FONT_PT, "fontfamily": FONT}


def _color(name: str) -> str:
    return COLORS[name].light
