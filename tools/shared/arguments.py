"""Command line options that several commands have, each defined once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heal.tools.shared.sources import TOWN

AllianceArg = Annotated[Path, typer.Option(help="Alliance folder.")]
DataArg = Annotated[Path, typer.Option(help="Folder of scenes: OPV2V layout or DAIR-V2X-C.")]
SourceArg = Annotated[str, typer.Option(help=f"{TOWN}, or a folder of scenes: OPV2V layout or DAIR-V2X-C.")]
SourceSplitArg = Annotated[str | None, typer.Option(help="Split of the source. Default: test, or val for DAIR-V2X-C.")]
AgentsArg = Annotated[
    int | None,
    typer.Option(
        min=1, help="Number of agents that take part, at most: the ego, then the first ones in range; 1 for the ego alone."
    ),
]
TypesArg = Annotated[
    str | None,
    typer.Option(
        "--types",
        help="Agent types: one for all agents; or several, separated by commas, the first for the ego and the next ones for the "
        "other agents in turn; or an assignment file (JSON). Default: the type that the base was trained with.",
    ),
]
EgoTypeArg = Annotated[
    str | None,
    typer.Option(
        help="Agent type of the ego, or several, separated by commas: where the ego has another type, the first agent of such a "
        "type in the order of the assignment becomes the ego. Default: the source's ego."
    ),
]
OnlyTypesArg = Annotated[str | None, typer.Option(help="Only these agent types, separated by commas, such as m1,m2. Default: all.")]
RenameArg = Annotated[list[str] | None, typer.Option(help="Rename an agent type: old=new; may be repeated.")]
CommRangeArg = Annotated[
    float,
    typer.Option(
        min=0, help="Communication range in metres: agents further from the ego take no part, and their labels are no ground truth."
    ),
]
AgentRangeArg = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Communication range in metres: agents further from the ego take no part, and their labels are no ground truth. "
        "Default: 70.",
    ),
]
IncludeEgoArg = Annotated[
    bool,
    typer.Option(
        "--include-ego", help="Count the ego's own vehicle as an object where another agent labels it, as OPV2V's tools do."
    ),
]
GroundTruthArg = Annotated[
    str,
    typer.Option(
        help="Ground truth of DAIR-V2X-C: joint, its cooperative label file; or merged, the labels of both sides without the "
        "second agent's boxes that overlap one of the ego's, as in HEAL."
    ),
]
UseZArg = Annotated[
    bool | None,
    typer.Option(
        "--use-z/--no-use-z",
        help="Whether objects must lie in the range in height too, or in x and y alone, as in HEAL's evaluation of DAIR-V2X-C. "
        "Default: in height too.",
    ),
]
LinesArg = Annotated[
    str | None,
    typer.Option(
        "--lines",
        help="Laser lines of the clouds that agents of a type read, as TYPE=LINES separated by commas, such as m1=32,m3=16: 16 "
        "or 32 for thinned clouds (in OPV2V_Hetero, or thinned by the town), 64 for the agent's own. Default: as trained.",
    ),
]
RangeArg = Annotated[
    tuple[float, float, float, float, float, float] | None,
    typer.Option(
        help="Range in the ego's frame, in metres: x_min y_min z_min x_max y_max z_max; z only selects the boxes that "
        "count. Default: the range that the alliance was trained on."
    ),
]
RuleArg = Annotated[
    str,
    typer.Option(
        help="Rule of the AP that is shown: global, detections of all scenes sorted by score; or per_frame, one scene after the "
        "other, as early evaluations on OPV2V did."
    ),
]
IouArg = Annotated[str, typer.Option(help="Overlap of boxes for the AP that is shown: bev, in bird's-eye view; or 3d, in space.")]
BreakdownArg = Annotated[
    bool,
    typer.Option(
        "--breakdown", help="Show AP by distance, by whether the ego or only others see a vehicle, by the ego's type and sensors."
    ),
]
DistancesArg = Annotated[
    str, typer.Option(help="Distances from the ego in metres at which the ranges of the breakdown meet, separated by commas.")
]
OverwriteArg = Annotated[
    bool, typer.Option("--overwrite", help="Replace the output that the folder holds; without it, such a folder is refused.")
]
RuntimeArg = Annotated[str, typer.Option(help="ray: agents and fusion node as Ray actors; local: everything in this process.")]
CacheArg = Annotated[
    Path | None, typer.Option(help="Folder that keeps sweeps, images, poses and labels, read fast by later runs. Default: none.")
]
OnDamageArg = Annotated[
    str,
    typer.Option(
        help="Missing and damaged files: stop with an error; or skip their scenes, after reading every file once to find them; "
        "or a list that heal doctor has written, whose scenes are left out."
    ),
]
IntensityScaleArg = Annotated[
    float | None,
    typer.Option(
        help="Stored value that means intensity 1 in the clouds, such as 4095. Default: inferred from some of the clouds."
    ),
]
DeviceArg = Annotated[
    str, typer.Option(help="Device of the networks: cpu, cuda, cuda:1 and so on, or auto: a GPU if there is one.")
]
ThreadsArg = Annotated[int, typer.Option(min=0, help="Number of CPU threads; 0 for one per core that the process may use.")]
SettingsFileArg = Annotated[
    Path | None,
    typer.Option("--config", help="YAML file with settings of the run; each simulation writes its settings to run.yaml."),
]
SettingsArg = Annotated[
    list[str],
    typer.Option(
        "--set", help="Change a setting: key=value, such as run.split=pyramid or deployment.placement=spread; may be repeated."
    ),
]
