"""Charts of a report as inline SVG: lines and stacked layers over the ticks of a run, drawn for any width of the page.

The plot is stretched to its place, its lettering is not: it is HTML beside it, so that it can be read on a telephone too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from heal.tools.report_html import Markup, element, join
from heal.types import Float64

WIDTH, HEIGHT = 1000.0, 100.0
MOST_POINTS = 240
GRID_LINES = 4


@dataclass(frozen=True)
class Series:
    """Numbers over the ticks.

    Attributes:
        name: in the legend.
        color: a style sheet's, such as "var(--s1)".
        values: (T,), one for each tick; NaN where there is none.
    """

    name: str
    color: str
    values: Float64


@dataclass(frozen=True)
class Scale:
    """The y axis: from 0 to `top` in steps of `step`, in some unit."""

    top: float
    step: float
    unit: str = ""

    @staticmethod
    def up_to(largest: float, unit: str = "") -> Scale:
        """A scale that ends just above the largest value, in steps of 1, 2 or 5 times a power of ten."""
        largest = largest if np.isfinite(largest) and largest > 0 else 1.0
        raw = largest / GRID_LINES
        power = 10.0 ** np.floor(np.log10(raw))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
        return Scale(float(step * np.ceil(largest / step - 1e-9)), float(step), unit)

    def marks(self) -> list[float]:
        """The values that are written at the axis."""
        return [self.step * i for i in range(round(self.top / self.step) + 1)]


def line_chart(ticks: Sequence[int], series: Sequence[Series], scale: Scale) -> Markup:
    """Lines over the ticks, with a legend."""
    parts = binned(len(ticks))
    lines = [_line(mean_of(each.values, parts), each.color, scale) for each in series]
    return _chart(ticks, series, scale, parts, lines)


def stacked_chart(ticks: Sequence[int], series: Sequence[Series], scale: Scale) -> Markup:
    """Layers one upon the other, so that the upper edge is their sum; a missing number counts as 0."""
    parts = binned(len(ticks))
    below, layers = np.zeros(len(parts)), []
    for each in series:
        above = below + np.nan_to_num(mean_of(each.values, parts))
        layers.append(_layer(below, above, each.color, scale))
        below = above
    return _chart(ticks, series, scale, parts, layers)


def binned(count: int) -> list[slice]:
    """Neighbouring ticks that share a point of a chart, so that long runs have no more points than screens."""
    edges = np.linspace(0, count, min(count, MOST_POINTS) + 1).astype(int)
    return [slice(int(start), int(end)) for start, end in pairwise(edges)]


def mean_of(values: Float64, parts: Sequence[slice]) -> Float64:
    """The mean of the numbers in each part; NaN for a part without any."""
    groups = [values[part][~np.isnan(values[part])] for part in parts]
    return np.array([group.mean() if len(group) else np.nan for group in groups])


def _across(count: int) -> Float64:
    """Where points lie from left to right: in the middle of equal parts."""
    places: Float64 = (np.arange(count) + 0.5) * WIDTH / max(count, 1)
    return places


def _up(values: Float64, scale: Scale) -> Float64:
    heights: Float64 = HEIGHT * (1 - np.clip(values / scale.top, 0, 1))
    return heights


def _line(values: Float64, color: str, scale: Scale) -> Markup:
    """A line that is broken where numbers are missing."""
    steps, pen = [], "M"
    for x, y in zip(_across(len(values)), _up(values, scale), strict=True):
        if np.isnan(y):
            pen = "M"
            continue
        # A lone point is a line of no length, which round caps make visible.
        steps.append(f"{pen}{x:.1f} {y:.2f}" + ("h0" if pen == "M" else ""))
        pen = "L"
    return element("path", d=" ".join(steps), class_="line", style=f"stroke:{color}")


def _layer(below: Float64, above: Float64, color: str, scale: Scale) -> Markup:
    """The area between two lines, carried on to the edges of the plot."""
    x = _across(len(below))
    x[:1], x[-1:] = 0, WIDTH
    upper = [f"{a:.1f},{b:.2f}" for a, b in zip(x, _up(above, scale), strict=True)]
    lower = [f"{a:.1f},{b:.2f}" for a, b in zip(x, _up(below, scale), strict=True)]
    return element("polygon", points=" ".join(upper + lower[::-1]), class_="layer", style=f"fill:{color}")


def _chart(ticks: Sequence[int], series: Sequence[Series], scale: Scale, parts: Sequence[slice], drawn: Sequence[Markup]) -> Markup:
    grid = [_grid_line(HEIGHT * (1 - mark / scale.top)) for mark in scale.marks()]
    plot = element(
        "svg",
        *grid,
        *drawn,
        *_columns(ticks, series, scale, parts),
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        preserveAspectRatio="none",
        role="img",
        aria_label=", ".join(each.name for each in series),
    )
    marks = [element("span", f"{mark:g}", style=f"bottom:{100 * mark / scale.top:.2f}%") for mark in scale.marks()]
    below = [element("span", f"tick {tick}") for tick in _few(ticks)]
    axis = element("div", *marks, class_="marks")
    figure = element("div", axis, element("div", plot, class_="plot"), element("div", *below, class_="below"), class_="chart")
    return element("figure", legend(series, scale.unit), figure)


def legend(series: Sequence[Series], unit: str = "") -> Markup:
    """The names of series with their colours."""
    names = [element("span", element("i", style=f"background:{each.color}"), each.name) for each in series]
    return element("figcaption", *names, *([element("span", unit, class_="unit")] if unit else []))


def _grid_line(y: float) -> Markup:
    return element("line", x1=0, x2=f"{WIDTH:g}", y1=f"{y:.2f}", y2=f"{y:.2f}", class_="grid")


def _columns(ticks: Sequence[int], series: Sequence[Series], scale: Scale, parts: Sequence[slice]) -> Markup:
    """Invisible columns, one for each point: the browser shows their numbers under the pointer."""
    means = [mean_of(each.values, parts) for each in series]
    width = WIDTH / max(len(parts), 1)
    columns = []
    for i, part in enumerate(parts):
        first, last = ticks[part.start], ticks[part.stop - 1]
        name = f"tick {first}" if first == last else f"ticks {first} to {last}, mean"
        values = [
            f"{each.name}: {mean[i]:.4g} {scale.unit}".rstrip()
            for each, mean in zip(series, means, strict=True)
            if not np.isnan(mean[i])
        ]
        title = element("title", "\n".join([name, *values]))
        columns.append(
            element("rect", title, x=f"{i * width:.2f}", y=0, width=f"{width:.2f}", height=f"{HEIGHT:g}", class_="column")
        )
    return join(columns)


def _few(ticks: Sequence[int]) -> list[int]:
    """The first tick, the last, and the one in the middle."""
    return [ticks[i] for i in sorted({0, len(ticks) // 2, len(ticks) - 1})] if ticks else []


def bar(shares: Sequence[tuple[str, float]]) -> Markup:
    """A bar of parts (colour, share of the whole) side by side; the bar is as long as the shares' sum."""
    parts = [element("i", style=f"width:{100 * share:.2f}%;background:{color}") for color, share in shares if share > 0]
    return element("div", *parts, class_="bar")
