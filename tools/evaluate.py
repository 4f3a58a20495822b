"""`heal evaluate`: average precision of an alliance on a data set, with all agents of each scene or with fewer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from heal.agents.options import RunOptions
from heal.agents.process import usable_cores
from heal.alliance import Alliance
from heal.errors import UserError
from heal.tools.checks.fit import DataFit
from heal.tools.evaluation.compute import GPU_BATCH, GPU_WORKERS, Compute
from heal.tools.evaluation.late import LateAlliance, open_for_evaluation
from heal.tools.evaluation.plan import choose_evaluated, evaluation_runs, plan_of
from heal.tools.evaluation.run import run_and_report
from heal.tools.evaluation.shown import DISTANCES, Shown
from heal.tools.shared.arguments import (
    AgentsArg,
    BreakdownArg,
    CacheArg,
    CommRangeArg,
    DataArg,
    DeviceArg,
    DistancesArg,
    EgoTypeArg,
    GroundTruthArg,
    IncludeEgoArg,
    IntensityScaleArg,
    IouArg,
    LinesArg,
    OnDamageArg,
    OverwriteArg,
    RangeArg,
    RuleArg,
    ThreadsArg,
    TypesArg,
    UseZArg,
)
from heal.tools.shared.lines import parse_lines
from heal.tools.shared.made_by import ScenesRecord
from heal.tools.shared.output import Output
from heal.tools.shared.sources import ReadOptions
from heal.tools.shared.type_argument import base_type
from heal.types import Split

# What the title of a table says of the fusion where no maps are sent.
_FUSION_NAMES: dict[Split, str] = {"boxes": ", late fusion", "points": ", early fusion"}
CORES = usable_cores()
console = Console()

AlliancesArg = Annotated[
    list[Path], typer.Option("--alliance", help="Alliance folder; with --late it may be repeated, one for each agent type.")
]
LateArg = Annotated[
    bool,
    typer.Option(
        "--late",
        help="Late fusion: every agent detects alone, with the base of the alliance that has its type, such as a single-agent "
        "detector; the boxes of all agents are joined in the ego's frame.",
    ),
]
EarlyArg = Annotated[
    bool,
    typer.Option(
        "--early",
        help="Early fusion: agents send their LiDAR points, and the networks of the ego's type detect in the joint cloud.",
    ),
]
OutArg = Annotated[Path, typer.Option(help="Folder for run.yaml, metrics.json, scenes.npz and pictures.")]
SplitArg = Annotated[str, typer.Option(help="Split to evaluate; test:ic limits it to a collaboration, see docs/data.md.")]
FramesArg = Annotated[int | None, typer.Option(min=1, help="Number of scenes, evenly spaced over the split. Default: all.")]
PicturesArg = Annotated[int, typer.Option(min=0, help="Number of scenes to draw.")]
PrecisionArg = Annotated[str, typer.Option(help="float32, or faster: tf32 on GPUs, bfloat16 on GPUs and on CPUs with AMX.")]
BatchArg = Annotated[
    int | None,
    typer.Option(
        min=1,
        help=f"Scenes whose agents are encoded together. Default: {GPU_BATCH} on a GPU, 1 on a CPU.",
    ),
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
heal evaluate --alliance configs/demo/alliance --data runs/town --late --out runs/late
heal evaluate --alliance configs/demo/alliance --data runs/town --save-detections --out runs/saved
heal evaluate --alliance configs/demo/alliance --data runs/town --iou 3d --breakdown --distances 15,30 --out runs/parts
heal evaluate --alliance runs/mine --data runs/town --out runs/mine-evaluation --against runs/alone
heal evaluate --alliance runs/dair-base/alliance --data DAIR_ROOT --split val --out runs/dair-evaluation
"""


def evaluate(
    context: typer.Context,
    alliance: AlliancesArg,
    data: DataArg,
    out: OutArg,
    overwrite: OverwriteArg = False,
    late: LateArg = False,
    early: EarlyArg = False,
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
    rule: RuleArg = "global",
    iou: IouArg = "bev",
    breakdown: BreakdownArg = False,
    distances: DistancesArg = DISTANCES,
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
    """Evaluate the detection AP of an alliance on a data set, against the labels of all agents in range. Poses stay as given."""
    evaluate_as_asked(context, Asked.of(context.params), out, overwrite)


@dataclass(frozen=True)
class Asked:
    """What the command line asks for, besides the options of the run and of reading; each attribute is the option of this name.

    `shown` joins the options that choose the measures in the tables.
    """

    alliance: list[Path]
    late: bool
    early: bool
    data: Path
    split: str
    in_order: str | None
    against: Path | None
    frames: int | None
    range_m: tuple[float, float, float, float, float, float] | None
    pictures: int
    save_detections: bool
    record: bool
    shown: Shown

    @staticmethod
    def of(given: Mapping[str, Any]) -> Asked:
        """Take the options of a command line by their names; UserError for measures that there are not."""
        shown = Shown.parse(given["rule"], given["iou"], given["breakdown"], given["distances"])
        return Asked(**{part.name: given[part.name] for part in fields(Asked) if part.name != "shown"}, shown=shown)

    @property
    def title(self) -> str:
        """The name under which scores are shown and recorded."""
        return f"{self.data.name}, {self.split}{_FUSION_NAMES.get(self.sent, '')}"

    @property
    def sent(self) -> Split:
        """What agents send; UserError if late and early fusion are asked for together."""
        if self.late and self.early:
            raise UserError("--early: --late sends boxes instead of points; give one of the two")
        return "boxes" if self.late else "points" if self.early else "feature"

    @property
    def record_to(self) -> Path | None:
        """The alliance into which AP is written, if it is to be; UserError for several alliances."""
        if self.record and len(self.alliance) > 1:
            raise UserError("--record: the AP of several alliances belongs to none of them; leave --record out")
        return self.alliance[0] if self.record else None


def evaluate_as_asked(context: typer.Context, asked: Asked, out: Path, overwrite: bool) -> None:
    """Open everything that a command line asks for, and evaluate it with an output in the folder `out`."""
    compute, record_to = _compute(context.params), asked.record_to
    options = replace(_options(context.params, compute), split=asked.sent)
    opened = open_for_evaluation(asked.alliance, asked.late, asked.range_m)
    reading = replace(ReadOptions.of_command(context.params), classes=opened.base.config.object_classes)
    recorded = _scenes_record(context.params, opened)
    output = Output.of(context, out, overwrite, opened.record if isinstance(opened, LateAlliance) else opened, recorded)
    data = reading.open_and_show(asked.data, asked.split)
    scenes = choose_evaluated(data, asked.frames, recorded, opened, options, reading.on_damage)
    DataFit(opened, options, asked.range_m is not None, True).warn(scenes.source, scenes.ticks, scenes.types_of)
    runs = evaluation_runs(asked.in_order, options)
    plan = plan_of(opened, scenes, runs, asked.pictures, output, asked.against, compute, asked.save_detections, asked.shown)
    run_and_report(plan, asked.title, bool(asked.in_order), record_to)


def _compute(given: Mapping[str, Any]) -> Compute:
    """Return where the options of the command line say that the evaluation computes."""
    return Compute.of(given["device"], given["processes"], given["batch"], given["workers"])


def _scenes_record(given: Mapping[str, Any], alliance: Alliance) -> ScenesRecord:
    """Describe the scenes that the options of the command line choose, by name; UserError if two of them give the agents types."""
    if given["in_order"] and given["types"]:
        raise UserError("--types: --in-order gives the agents their types itself; give one of the two")
    types = given["in_order"] or given["types"] or base_type(alliance)
    return ScenesRecord(source=str(given["data"]), split=given["split"], types=types, ego_type=given["ego_type"])


def _options(given: Mapping[str, Any], compute: Compute) -> RunOptions:
    """Return the options of the run from those of the command line, by name; UserError for one that cannot be used."""
    same = {name: given[name] for name in ("agents", "comm_range_m", "precision", "include_ego")}
    use_z, lines = given["use_z"] is not False, parse_lines(given["lines"])
    threads = given["threads"] or max(CORES // compute.processes, 1)
    # Published results are with poses as they are given.
    return RunOptions(**same, use_z=use_z, threads=threads, lidar_lines=lines, correct_poses="off")
