"""The figure of `heal profile`: AP against the parameters that were trained for it; parameters alone without a record of AP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from heal.atomic_write import replacing
from heal.tools.pictures.margin import write_margin
from heal.tools.profiling.costs import Costs
from heal.tools.profiling.parameters import PUBLISHED, are_the_papers

COLORS = ("#1f6feb", "#d9822b", "#8250df", "#1a7f37")
GREY = "#57606a"


def draw_costs(costs: Costs, title: str, path: Path, margin: str = "") -> None:
    """Write the figure as PNG; beside the alliance of the paper's sizes stand the published results. `margin` is the text below."""
    from matplotlib.figure import Figure

    drawn: list[Callable[[Any, Costs], None]] = [_draw_accuracy if costs.accuracy else _draw_parameters]
    drawn += [_draw_published] if are_the_papers(costs.growth) else []
    figure = Figure(figsize=(4.8 * len(drawn) + 1.2, 4.2), dpi=150, layout="constrained")
    for draw, axes in zip(drawn, figure.subplots(1, len(drawn), squeeze=False)[0], strict=True):
        draw(axes, costs)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="best", fontsize=8)
    figure.suptitle(title, fontsize=11)
    write_margin(figure, margin)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def _draw_accuracy(axes: Any, costs: Costs) -> None:
    """Draw recorded AP against the parameters that all stages 2 so far have trained: a point for each type."""
    for color, accuracy in zip(COLORS, costs.accuracy, strict=False):
        x = [step.aligned / 1e6 for step in costs.growth[: len(accuracy.ap50)]]
        axes.plot(x, accuracy.ap50, color=color, marker="o", label=f"AP@0.5, {accuracy.data}")
        axes.plot(x, accuracy.ap70, color=color, marker="o", linestyle=":", label=f"AP@0.7, {accuracy.data}")
    for step, ap in zip(costs.growth, costs.accuracy[0].ap50, strict=False):
        _name_point(axes, step.name, step.aligned, ap)
    axes.set(xlabel="parameters trained in stages 2 so far (M)", ylabel="AP", ylim=(0, 1))


def _draw_parameters(axes: Any, costs: Costs) -> None:
    """Draw the parameters that are trained when each type joins, and those of the whole alliance."""
    names = [step.name for step in costs.growth]
    axes.bar(names, [step.trained / 1e6 for step in costs.growth], color=COLORS[0], label="trained when the type joins")
    axes.plot(names, [step.in_all / 1e6 for step in costs.growth], color=COLORS[1], marker="o", label="alliance in all")
    axes.set(xlabel="type that joins", ylabel="parameters (M)")


def _draw_published(axes: Any, _: Costs) -> None:
    """Draw the published AP of HEAL and others, without pose noise, against the published number of trained parameters."""
    for name, marker in (("AP@0.5", "o"), ("AP@0.7", "s")):
        values = [row.ap50 if name == "AP@0.5" else row.ap70 for row in PUBLISHED]
        axes.scatter([row.parameters / 1e6 for row in PUBLISHED], values, color=GREY, marker=marker, label=f"{name}, published")
    for row in PUBLISHED:
        _name_point(axes, row.name, row.parameters, row.ap50)
    axes.set(
        xlabel="network in the training of the third type to join (M)",
        ylabel="AP",
        ylim=(0, 1.1),
        title="published (HEAL, ICLR 2024)",
    )


def _name_point(axes: Any, name: str, parameters: float, ap: float) -> None:
    """Write a name above a point of a number of parameters and an AP; it is slanted, so that near points do not hide it."""
    axes.annotate(name, (parameters / 1e6, ap), textcoords="offset points", xytext=(0, 6), rotation=30, fontsize=8)
