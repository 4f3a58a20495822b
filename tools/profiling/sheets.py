"""The tables of `heal profile`, for the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.table import Table

from heal.tools.profiling.costs import Costs
from heal.tools.profiling.messages import FORMATS
from heal.tools.profiling.parameters import GrowthStep, are_the_papers
from heal.tools.terminal.tables import narrow_table

FLOPS_NOTE = (
    "A multiplication and an addition count as two. Counted: convolutions, sparse ones by their pairs of sites, matrix products, "
    "bilinear sampling, weighted sums. Not counted: norms, activations, maxima, softmaxes, voxels, boxes."
)


@dataclass(frozen=True)
class Sheet:
    """A table.

    Attributes:
        title: above the table.
        headings: of the columns; a space is a place where a heading may break.
        rows: the texts of each row.
        note: what has to be known about the numbers.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str

    def for_terminal(self) -> Table:
        """Return the table, without its note, for a terminal of 80 columns."""
        table = narrow_table(self.headings, self.title)
        for column in table.columns[1:]:
            column.justify = "right"
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """Return the table in Markdown, under a heading."""
        lines = (self.headings, ("---", *["---:"] * (len(self.headings) - 1)), *self.rows)
        return f"## {self.title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines) + f"\n{self.note}\n"


def sheets_of(costs: Costs) -> list[Sheet]:
    """Return all tables; that of the trainings is left out if they were not measured."""
    sheets = [parts_sheet(costs), growth_sheet(costs), type_flops_sheet(costs), frame_flops_sheet(costs), messages_sheet(costs)]
    return [*sheets, training_sheet(costs)] if costs.training else sheets


def markdown_page(title: str, made_by: str, sheets: Iterable[Sheet]) -> str:
    """Return a page with all tables; `made_by` says what made them."""
    return f"# {title}\n\n" + "\n".join(sheet.markdown() for sheet in sheets) + f"\n```\n{made_by}\n```\n"


def parts_sheet(costs: Costs) -> Sheet:
    """Make the table of parameters by part."""
    rows = (
        (part.name, *map(_whole, (part.encoder, part.backbone, part.aligner, part.encoder + part.backbone + part.aligner)))
        for part in costs.type_parameters
    )
    base = costs.base_parameters
    note = (
        f"The base has {base.fusion + base.shrink + base.heads:,}: Pyramid Fusion {base.fusion:,}, shrink {base.shrink:,}, "
        f"heads {base.heads:,}."
    )
    return Sheet("Parameters of each type", ("type", "encoder", "backbone", "aligner", "in all"), tuple(rows), note)


def growth_sheet(costs: Costs) -> Sheet:
    """Make the table of an alliance as it grows, with the recorded AP on the first data set."""
    accuracy = costs.accuracy[0] if costs.accuracy else None
    rows = []
    for i, step in enumerate(costs.growth):
        row = (step.name, *map(_whole, (step.trained, step.network, step.aligned, step.in_all)))
        known = accuracy is not None and i < len(accuracy.ap50)
        ap = (f"{accuracy.ap50[i]:.3f}", f"{accuracy.ap70[i]:.3f}") if accuracy and known else ("-", "-")
        rows.append((*row, *ap) if accuracy else row)
    headings = ("type that joins", "trained", "network in training", "all stages 2 so far", "alliance in all")
    note = "Stage 1 trains the base with the first type, stage 2 each other type alone; its network contains the frozen base."
    note += f" AP: {accuracy.data}." if accuracy else ""
    note += f" {_published(costs.growth)}" if are_the_papers(costs.growth) else ""
    return Sheet("Parameters as types join", (*headings, "AP@0.5", "AP@0.7") if accuracy else headings, tuple(rows), note)


def _published(steps: tuple[GrowthStep, ...]) -> str:
    """Return which number of the paper's alliance is the published one."""
    last = steps[-1]
    return (
        f"HEAL's published 7.15 M for three types that have joined is the size of the network in which {last.name} is trained "
        f"({last.network:,}), with the frozen base; stage 2 trains {last.trained:,} of it, and {last.aligned:,} for all three."
    )


def type_flops_sheet(costs: Costs) -> Sheet:
    """Make the table of operations for an agent of each type."""
    rows = ((part.name, *map(_giga, (part.encoder, part.backbone, part.aligner, part.total))) for part in costs.type_flops)
    note = f"The sensor data are those of a vehicle in the built-in town, with one LiDAR and four cameras. {FLOPS_NOTE}"
    return Sheet("GFLOP for one agent", ("type", "encoder", "backbone", "aligner", "in all"), tuple(rows), note)


def frame_flops_sheet(costs: Costs) -> Sheet:
    """Make the table of operations for frames with several numbers of agents."""
    rows = (
        (str(len(row.types)), *map(_giga, (row.agents, row.trunk, row.fusion, row.heads, row.total))) for row in costs.frame_flops
    )
    longest = max(costs.frame_flops, key=lambda row: len(row.types))
    note = (
        f"The agents' types: {', '.join(longest.types)}. Fusion: every map reaches all of the ego's map, which is the most that "
        "fusion can cost; a single agent's map is not moved."
    )
    headings = ("agents", "agents' networks", "trunk", "fusion", "shrink, heads", "in all")
    return Sheet("GFLOP for a frame", headings, tuple(rows), note)


def messages_sheet(costs: Costs) -> Sheet:
    """Make the table of the lengths of messages."""
    sizes = {(size.name, size.split, size.codec): size.size_bytes for size in costs.messages}
    rows = (
        (part.name, *(_whole(sizes[part.name, split, str(codec)]) for split, codec in FORMATS)) for part in costs.type_parameters
    )
    headings = ("type", *(f"{'pyramid ' if split == 'pyramid' else ''}{codec}" for split, codec in FORMATS))
    note = "As an agent's step writes them. pyramid: split: pyramid, where the agent runs the trunk and sends all scales."
    return Sheet("Bytes of a message", headings, tuple(rows), note)


def training_sheet(costs: Costs) -> Sheet:
    """Make the table of memory and throughput of the trainings."""
    rows = (
        (
            cost.name,
            str(cost.stage),
            str(cost.agents),
            "-" if cost.peak_bytes is None else _giga(cost.peak_bytes),
            f"{cost.scenes_per_s:.3g}",
        )
        for cost in costs.training
    )
    on_gpu = costs.training[0].device == "cuda"
    memory = (
        "the most that torch has allocated, networks and batch included"
        if on_gpu
        else "the growth of the process in its first step"
    )
    note = f"Steps of one scene in float32 on the {'GPU' if on_gpu else 'CPU'}, without loading it. Peak: {memory}."
    return Sheet("Training", ("type", "stage", "agents", "peak GB", "scenes per second"), tuple(rows), note)


def _whole(number: int) -> str:
    return f"{number:,}"


def _giga(number: int) -> str:
    """Return a number of operations or bytes in units of 10^9, with three decimals at most."""
    return f"{number / 1e9:.3f}" if number < 1e10 else f"{number / 1e9:.1f}"
