"""`heal evaluate`: average precision of an alliance on a data set, with all agents of each scene or with fewer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from heal.agents.options import RunOptions
from heal.agents.process import usable_cores
from heal.tools.checks.fit import DataFit
from heal.tools.checks.ranges import open_on_range
from heal.tools.evaluation.plan import choose_evaluated, evaluation_runs, plan_of
from heal.tools.evaluation.run import run_and_report
from heal.tools.shared.arguments import (
    AgentsArg,
    AllianceArg,
    CacheArg,
    CommRangeArg,
    DataArg,
    EgoTypeArg,
    GroundTruthArg,
    IncludeEgoArg,
    IntensityScaleArg,
    OnDamageArg,
    OverwriteArg,
    ThreadsArg,
    TypesArg,
    UseZArg,
)
from heal.tools.shared.made_by import ScenesRecord
from heal.tools.shared.output import Output
from heal.tools.shared.sources import ReadOptions
from heal.tools.shared.type_argument import base_type

CORES = usable_cores()
console = Console()

OutArg = Annotated[Path, typer.Option(help="Folder for run.yaml, metrics.json, scenes.npz and pictures.")]
SplitArg = Annotated[str, typer.Option(help="Split to evaluate.")]
FramesArg = Annotated[int | None, typer.Option(min=1, help="Number of scenes, evenly spaced over the split. Default: all.")]
RangeArg = Annotated[
    tuple[float, float, float, float, float, float] | None,
    typer.Option(
        help="Range in the ego's frame, in metres: x_min y_min z_min x_max y_max z_max; z only selects the boxes that "
        "count. Default: the range that the alliance was trained on."
    ),
]
PicturesArg = Annotated[int, typer.Option(min=0, help="Number of scenes to draw.")]
PrecisionArg = Annotated[str, typer.Option(help="float32 or bfloat16; bfloat16 is faster on GPUs and on CPUs with AMX.")]
RecordArg = Annotated[bool, typer.Option("--record", help="Write the AP into the alliance folder; `heal info` shows it.")]
InOrderArg = Annotated[
    str | None,
    typer.Option(
        help="Agent types separated by commas: evaluate with the first agent alone, then with one agent more at a time, of these "
        "types in this order; gain_2.png, gain_3.png and so on show the scene in which the added agent helps most."
    ),
]
AgainstArg = Annotated[
    Path | None,
    typer.Option(help="Folder of an earlier evaluation of the same scenes: print the differences of AP to it, with 90% intervals."),
]

EXAMPLES = """\b
heal evaluate --alliance configs/demo/alliance --data runs/town --out runs/alone --agents 1
heal evaluate --alliance configs/demo/alliance --data runs/town --in-order m1,m2,m3,m4 --out runs/in-order
heal evaluate --alliance runs/mine --data runs/town --out runs/mine-evaluation --against runs/alone
heal evaluate --alliance runs/dair-base/alliance --data DAIR_ROOT --split val --out runs/dair-evaluation
"""


def evaluate(
    context: typer.Context,
    alliance: AllianceArg,
    data: DataArg,
    out: OutArg,
    overwrite: OverwriteArg = False,
    split: SplitArg = "test",
    agents: AgentsArg = None,
    types: TypesArg = None,
    in_order: InOrderArg = None,
    ego_type: EgoTypeArg = None,
    against: AgainstArg = None,
    frames: FramesArg = None,
    comm_range_m: CommRangeArg = 70.0,
    range_m: RangeArg = None,
    use_z: UseZArg = None,
    ground_truth: GroundTruthArg = "joint",
    include_ego: IncludeEgoArg = False,
    pictures: PicturesArg = 4,
    threads: ThreadsArg = 0,
    precision: PrecisionArg = "float32",
    cache: CacheArg = None,
    on_damage: OnDamageArg = "stop",
    intensity_scale: IntensityScaleArg = None,
    record: RecordArg = False,
) -> None:
    """Evaluate the detection AP of an alliance on a data set, against the labels of all agents in range. Poses are not corrected.

    If the ego has cameras, the row "ego blind" shows the AP without the ego's map. Differences have 90% intervals.
    """
    opened = open_on_range(alliance, range_m).for_inference()
    recorded = ScenesRecord(source=str(data), split=split, types=in_order or types or base_type(opened), ego_type=ego_type)
    output = Output.of(context, out, overwrite, opened, recorded)
    reading = ReadOptions.of(on_damage, intensity_scale, cache, ground_truth, every_agent=bool(ego_type))
    scenes = choose_evaluated(reading.open_and_show(data, split), frames, recorded, opened, reading.on_damage)
    fit = DataFit(opened, None if agents == 1 else comm_range_m, range_m is not None, True)
    fit.warn(scenes.source, scenes.ticks, scenes.types_of)
    runs = evaluation_runs(in_order, _options(agents, comm_range_m, precision, threads, include_ego, use_z is not False))
    plan = plan_of(opened, scenes, runs, pictures, output, against)
    run_and_report(plan, f"{data.name}, {split}", bool(in_order), alliance if record else None)


def _options(agents: int | None, comm_range_m: float, precision: str, threads: int, include_ego: bool, use_z: bool) -> RunOptions:
    """Return the options of the command line; ValueError for an unknown precision."""
    # Published results are with poses as they are given.
    options = RunOptions(agents, comm_range_m, correct_poses=False, include_ego=include_ego, use_z=use_z)
    return replace(options, precision=precision, threads=threads or CORES)  # type: ignore[arg-type]
