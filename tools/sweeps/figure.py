"""The figure of a sweep: AP against what it varies, with the curves that the paper has published if they are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heal.atomic_write import replacing
from heal.tools.pictures.margin import write_margin
from heal.tools.sweeps.conditions import ALONE, AXES
from heal.tools.sweeps.published import PublishedCurve
from heal.tools.sweeps.rows import SweepRow

COLORS = ("#1f6feb", "#d9822b", "#8250df", "#1a7f37")
GREY, GREYS = "#57606a", ("#24292f", "#6e7781", "#8c959f", "#afb8c1")  # of the ego alone, and of published curves
NAMED = ("attacks", "agents", "lines")  # sweeps whose places on the x axis have names and no numbers


def draw_sweep(
    rows: Sequence[SweepRow], kind: str, title: str, path: Path, margin: str = "", published: Sequence[PublishedCurve] = ()
) -> None:
    """Draw AP at IoU 0.5 and 0.7 against what the sweep varies, and write the figure as PNG.

    Args:
        rows: the results; each series is a line, the ego alone a horizontal one.
        kind: of the sweep.
        title: stands above the axes.
        path: of the figure.
        margin: stands below the axes.
        published: curves to draw beside the results.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.4 if published else 9.6, 4.2), dpi=150, layout="constrained")
    for axes, threshold in zip(figure.subplots(1, 2), ("0.5", "0.7"), strict=True):
        _draw_lines(axes, rows, kind, threshold)
        _draw_published(axes, published, threshold)
        axes.set(xlabel=AXES[kind], ylabel=f"AP@{threshold}", ylim=(0, 1), xscale="log" if kind == "codec" else "linear")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if kind in NAMED:
            _name_places(axes, rows, kind)
    if published:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize=6)
    else:
        axes.legend(loc="lower left", fontsize=9)
    figure.suptitle(title, fontsize=11)
    write_margin(figure, margin)
    with replacing(path) as temporary:
        figure.savefig(temporary)


def _name_places(axes: Any, rows: Sequence[SweepRow], kind: str) -> None:
    """Write the names of the runs at their places on the x axis: many slantwise, a few straight, in several lines."""
    names = {row.x: row.name.removesuffix(f", {row.series}") for row in rows if row.series != ALONE}
    if kind == "attacks":
        axes.set_xticks(list(names), list(names.values()), rotation=60, ha="right", fontsize=6)
    else:
        lines = [name.replace(", ", "\n").replace(" + ", "\n+ ") for name in names.values()]
        axes.set_xticks(list(names), lines, fontsize=8)


def _draw_published(axes: Any, published: Sequence[PublishedCurve], threshold: str) -> None:
    """Draw the published curves that have AP at this threshold, thin and grey."""
    for curve, color, marker in zip(published, GREYS, "sv^x", strict=False):
        if values := curve.ap.get(threshold):
            axes.plot(curve.x, values, color=color, linestyle=":", linewidth=1.2, marker=marker, markersize=4, label=curve.label)


def _draw_lines(axes: Any, rows: Sequence[SweepRow], kind: str, threshold: str) -> None:
    """Draw AP at one IoU threshold: a line for each series, and a horizontal line for the ego alone; nothing without objects.

    The x axis of delays is the measured age of the fused maps, at the tick and when the results are ready.
    """
    names = dict.fromkeys(row.series for row in rows if row.series != ALONE)
    for color, name in zip(COLORS, names, strict=False):
        own = [row for row in rows if row.series == name]
        places = [row.age_ms if kind == "delay" else row.x for row in own]
        _draw_line(axes, places, [row.ap[threshold] for row in own], label=name, color=color)
        if kind == "delay":
            places, ready = [row.ready_age_ms for row in own], [row.ready_ap[threshold] for row in own]
            _draw_line(axes, places, ready, label=f"{name}, when ready", color=color, linestyle=":", markerfacecolor="white")
    for row in rows:
        if row.series == ALONE and (alone := row.ap[threshold]) is not None:
            axes.axhline(alone, color=GREY, linestyle="--", linewidth=1.2, label=ALONE)


def _draw_line(axes: Any, places: Sequence[float | None], values: Sequence[float | None], **style: Any) -> None:
    """Draw a line through the points that have a place and a value."""
    points = sorted((x, y) for x, y in zip(places, values, strict=True) if x is not None and y is not None)
    axes.plot([x for x, _ in points], [y for _, y in points], marker="o", markersize=4, **style)
