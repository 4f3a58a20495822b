"""`heal evaluate`: average precision of an alliance on a data set, with all agents of each scene or with fewer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from heal.agents.options import RunOptions
from heal.agents.process import usable_cores
from heal.alliance import Alliance
from heal.tools.checks.fit import DataFit
from heal.tools.checks.ranges import open_on_range
from heal.tools.evaluation.compute import GPU_BATCH, GPU_WORKERS, Compute
from heal.tools.evaluation.plan import choose_evaluated, evaluation_runs, plan_of
from heal.tools.evaluation.run import run_and_report
from heal.tools.shared.arguments import (
    AgentsArg,
    AllianceArg,
    CacheArg,
    CommRangeArg,
    DataArg,
    DeviceArg,
    EgoTypeArg,
    GroundTruthArg,
    IncludeEgoArg,
    IntensityScaleArg,
    LinesArg,
    OnDamageArg,
    OverwriteArg,
    RangeArg,
    ThreadsArg,
    TypesArg,
    UseZArg,
)
from heal.tools.shared.lines import parse_lines
from heal.tools.shared.made_by import ScenesRecord
from heal.tools.shared.output import Output
from heal.tools.shared.sources import ReadOptions
from heal.tools.shared.type_argument import base_type

CORES = usable_cores()
console = Console()

OutArg = Annotated[Path, typer.Option(help="Folder for run.yaml, metrics.json, scenes.npz and pictures.")]
SplitArg = Annotated[str, typer.Option(help="Split to evaluate.")]
FramesArg = Annotated[int | None, typer.Option(min=1, help="Number of scenes, evenly spaced over the split. Default: all.")]
PicturesArg = Annotated[int, typer.Option(min=0, help="Number of scenes to draw.")]
PrecisionArg = Annotated[str, typer.Option(help="float32, or faster: tf32 on GPUs, bfloat16 on GPUs and on CPUs with AMX.")]
BatchArg = Annotated[
    int | None,
    typer.Option(min=1, help=f"Scenes whose agents are encoded together. Default: {GPU_BATCH} on a GPU, 1 on a CPU."),
]
WorkersArg = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Processes that read scenes ahead, for each process. Default: one per free core, "
        f"at most {GPU_WORKERS}, on a GPU; 0 on a CPU.",
    ),
]
ProcessesArg = Annotated[
    int | None, typer.Option(min=1, help="Processes that share the recordings of the data set. Default: 1, or one per GPU.")
]
SaveArg = Annotated[
    bool,
    typer.Option("--save-detections", help="Keep the boxes of detections and objects in scenes.npz, for `heal score`."),
]
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
heal evaluate --alliance configs/demo/alliance --data runs/town-lines --types m1,m3 --lines m1=32,m3=16 --out runs/few-lines
heal evaluate --alliance configs/demo/alliance --data runs/town --save-detections --out runs/saved
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
    lines: LinesArg = None,
    use_z: UseZArg = None,
    ground_truth: GroundTruthArg = "joint",
    include_ego: IncludeEgoArg = False,
    pictures: PicturesArg = 4,
    device: DeviceArg = "auto",
    processes: ProcessesArg = None,
    batch: BatchArg = None,
    workers: WorkersArg = None,
    threads: ThreadsArg = 0,
    precision: PrecisionArg = "float32",
    cache: CacheArg = None,
    on_damage: OnDamageArg = "stop",
    intensity_scale: IntensityScaleArg = None,
    save_detections: SaveArg = False,
    record: RecordArg = False,
) -> None:
    """Evaluate the detection AP of an alliance on a data set, against the labels of all agents in range. Poses are not corrected.

    If the ego has cameras, the row "ego blind" shows the AP without the ego's map. Differences have 90% intervals.
    """
    compute = Compute.of(device, processes, batch, workers)
    opened = open_on_range(alliance, range_m).for_inference()
    output = Output.of(context, out, overwrite, opened, _scenes_record(context.params, opened))
    reading = ReadOptions.of(on_damage, intensity_scale, cache, ground_truth, every_agent=bool(ego_type))
    options = _options(context.params, threads or max(CORES // compute.processes, 1))
    scenes = choose_evaluated(reading.open_and_show(data, split), frames, output.made_by.scenes, opened, options, reading.on_damage)
    DataFit(opened, options, range_m is not None, True).warn(scenes.source, scenes.ticks, scenes.types_of)
    plan = plan_of(opened, scenes, evaluation_runs(in_order, options), pictures, output, against, compute, save_detections)
    run_and_report(plan, f"{data.name}, {split}", bool(in_order), alliance if record else None)


def _scenes_record(given: Mapping[str, Any], alliance: Alliance) -> ScenesRecord:
    """Describe the scenes that the options of the command line choose, by name."""
    types = given["in_order"] or given["types"] or base_type(alliance)
    return ScenesRecord(source=str(given["data"]), split=given["split"], types=types, ego_type=given["ego_type"])


def _options(given: Mapping[str, Any], threads: int) -> RunOptions:
    """Return the options of the run from those of the command line, by name; UserError for one that cannot be used."""
    same = {name: given[name] for name in ("agents", "comm_range_m", "precision", "include_ego")}
    use_z, lines = given["use_z"] is not False, parse_lines(given["lines"])
    # Published results are with poses as they are given.
    return RunOptions(**same, use_z=use_z, threads=threads, lidar_lines=lines, correct_poses=False)
