"""Charts of a report: series over the ticks of a run, drawn by matplotlib as SVG that stands inside the page.

The SVG holds lines, layers and numbers. The template adds the title, the legend and the values under the pointer as HTML text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from heal.tools.report.colors import COLORS
from heal.types import Float64

HALF_WIDTH_PT, FULL_WIDTH_PT, HEIGHT_PT = 500.0, 1030.0, 230.0
# The distances between the edges of the SVG and the axes, in points.
LEFT_PT, RIGHT_PT, TOP_PT, BOTTOM_PT = 46.0, 6.0, 8.0, 28.0
# The font that matplotlib measures; the style sheet replaces it by the font of the page.
FONT, FONT_PT = "DejaVu Sans", 12.0
MOST_POINTS = 240
Y_INTERVALS = 4
# With equal identifiers and without a date, equal runs give equal files. Text stays text, in the font of the page.
SVG_OPTIONS = {"svg.fonttype": "none", "svg.hashsalt": "heal"}
NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


@dataclass(frozen=True)
class Series:
    """One number for each tick.

    Attributes:
        name: text in the legend.
        color: key of `COLORS`.
        values: (T,) the numbers in the unit of the chart; NaN for a tick without a number.
    """

    name: str
    color: str
    values: Float64


@dataclass(frozen=True)
class Frame:
    """What a chart has besides its series.

    Attributes:
        title: text above the chart.
        largest: value that the y axis, which starts at 0, reaches at least.
        unit: of the values; "" for pure numbers.
        width_pt: width of the SVG in points.
    """

    title: str
    largest: float
    unit: str = ""
    width_pt: float = FULL_WIDTH_PT


@dataclass(frozen=True)
class Point:
    """A vertical strip of a chart in which the browser shows values under the pointer.

    Attributes:
        text: the ticks and the value of every series, one a line.
        ticks: number of ticks that the strip covers; its width is in proportion.
    """

    text: str
    ticks: int


@dataclass(frozen=True)
class Chart:
    """A chart as the template needs it.

    Attributes:
        frame: title, unit and width.
        legend: name and colour, a key of `COLORS`, of every series.
        svg: the `<svg>` element; it contains no text from outside, only numbers.
        points: strips from the left edge of the axes to the right edge.
    """

    frame: Frame
    legend: tuple[tuple[str, str], ...]
    svg: str
    points: tuple[Point, ...]

    @property
    def axes_insets(self) -> tuple[float, float, float, float]:
        """Distances from the top, right, bottom and left edge of the SVG to the axes, in percent of its height or width."""
        width = self.frame.width_pt
        return 100 * TOP_PT / HEIGHT_PT, 100 * RIGHT_PT / width, 100 * BOTTOM_PT / HEIGHT_PT, 100 * LEFT_PT / width

    @property
    def least_width_px(self) -> int:
        """Width below which a narrow screen scrolls the chart sideways, so that its numbers stay readable."""
        return round(0.75 * self.frame.width_pt)


def line_chart(frame: Frame, ticks: Sequence[int], series: Sequence[Series]) -> Chart:
    """Draw each series as a line over the ticks; the line is broken at ticks without a number."""
    bins = tick_bins(len(ticks))
    centres = np.array([(part.start + part.stop - 1) / 2 for part in bins])
    figure, axes = _empty_figure(frame, ticks)
    for each in series:
        x, y = _with_visible_singles(centres, bin_means(each.values, bins))
        axes.plot(x, y, color=COLORS[each.color].light, linewidth=2, solid_capstyle="round", clip_on=False)
    return _chart(frame, ticks, series, bins, figure)


def stacked_chart(frame: Frame, ticks: Sequence[int], series: Sequence[Series]) -> Chart:
    """Draw the series as layers on top of each other, so that the upper edge is their sum; a missing number counts as 0."""
    bins = tick_bins(len(ticks))
    edges = np.array([0, *(part.stop for part in bins)]) - 0.5
    figure, axes = _empty_figure(frame, ticks)
    below = np.zeros(len(bins))
    for each in series:
        above = below + np.nan_to_num(bin_means(each.values, bins))
        colors = {"facecolor": COLORS[each.color].light, "edgecolor": COLORS["panel"].light}
        axes.stairs(above, edges, baseline=below, fill=True, alpha=0.85, linewidth=1, clip_on=False, **colors)
        below = above
    return _chart(frame, ticks, series, bins, figure)


def tick_bins(count: int) -> list[slice]:
    """Split `count` ticks into at most `MOST_POINTS` runs of neighbours of almost equal length, one for each point of a chart."""
    edges = np.linspace(0, count, min(count, MOST_POINTS) + 1).astype(int)
    return [slice(int(start), int(end)) for start, end in pairwise(edges)]


def bin_means(values: Float64, bins: Sequence[slice]) -> Float64:
    """Return the mean (B,) of the numbers (T,) in each bin; NaN for a bin without a number."""
    groups = [values[part][~np.isnan(values[part])] for part in bins]
    return np.array([group.mean() if len(group) else np.nan for group in groups])


def y_ticks(largest: float) -> Float64:
    """Return round values from 0 to the first one that is not below the largest value."""
    from matplotlib.ticker import MaxNLocator

    top = largest if np.isfinite(largest) and largest > 0 else 1.0
    return np.array(MaxNLocator(Y_INTERVALS, steps=(1, 2, 2.5, 5, 10)).tick_values(0.0, top), np.float64)


def _empty_figure(frame: Frame, ticks: Sequence[int]) -> tuple[Any, Any]:
    """Return a matplotlib figure with axes over the positions 0 to T - 1 of the ticks, and the axes."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator, StrMethodFormatter

    width = frame.width_pt
    figure = Figure(figsize=(width / 72, HEIGHT_PT / 72), dpi=72, facecolor="none")
    inside = (width - LEFT_PT - RIGHT_PT) / width, (HEIGHT_PT - TOP_PT - BOTTOM_PT) / HEIGHT_PT
    axes = figure.add_axes((LEFT_PT / width, BOTTOM_PT / HEIGHT_PT, *inside), facecolor="none")
    marks = y_ticks(frame.largest)
    axes.set(xlim=(-0.5, len(ticks) - 0.5), ylim=(0, marks[-1]), yticks=marks, axisbelow=True)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=(1, 2, 5, 10)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"tick {ticks[int(x)]}" if x in range(len(ticks)) else ""))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.tick_params(labelcolor=COLORS["faint"].light, labelsize=FONT_PT, labelfontfamily=FONT, left=False, bottom=False)
    axes.tick_params(axis="x", pad=8)
    axes.spines[:].set_visible(False)
    axes.grid(axis="y", color=COLORS["edge"].light, linewidth=1, clip_on=False)
    return figure, axes


def _chart(frame: Frame, ticks: Sequence[int], series: Sequence[Series], bins: Sequence[slice], figure: Any) -> Chart:
    legend = tuple((each.name, each.color) for each in series)
    return Chart(frame, legend, inline_svg(figure), _points(frame, ticks, series, bins))


def _with_visible_singles(x: Float64, y: Float64) -> tuple[Float64, Float64]:
    """Repeat each point (x, y) that has no neighbour: a line of length 0 with round caps is a dot, a single point is nothing."""
    missing = np.isnan(np.pad(y, 1, constant_values=np.nan))
    repeats = 1 + (~missing[1:-1] & missing[:-2] & missing[2:]).astype(np.int64)
    return np.repeat(x, repeats), np.repeat(y, repeats)


def inline_svg(figure: Any) -> str:
    """Return a figure as an `<svg>` element whose colours are the variables of the style sheet."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context(SVG_OPTIONS):
        figure.savefig(buffer, format="svg", metadata=NO_METADATA)
    svg = buffer.getvalue()
    # Markers are referred to, and equal ones have equal identifiers; the others would only be equal in all charts of the page.
    used = set(re.findall(r'#([\w-]+)[")]', svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg[svg.index("<svg") :])
    variables = {color.light: f"var(--{name})" for name, color in COLORS.items()}
    return re.sub("|".join(variables), lambda found: variables[found[0]], svg)


def _points(frame: Frame, ticks: Sequence[int], series: Sequence[Series], bins: Sequence[slice]) -> tuple[Point, ...]:
    """Return the text that the browser shows for each bin of ticks."""
    means = [bin_means(each.values, bins) for each in series]
    points = []
    for i, part in enumerate(bins):
        first, last = ticks[part.start], ticks[part.stop - 1]
        lines = [f"tick {first}" if first == last else f"ticks {first} to {last}, mean"]
        for each, mean in zip(series, means, strict=True):
            if not np.isnan(mean[i]):
                lines.append(f"{each.name}: {mean[i]:.4g} {frame.unit}".rstrip())
        points.append(Point("\n".join(lines), part.stop - part.start))
    return tuple(points)
