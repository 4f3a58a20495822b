"""Command line arguments that several commands have, said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AllianceArg = Annotated[Path, typer.Option(help="Alliance folder.")]
DataArg = Annotated[Path, typer.Option(help="Folder of scenes: OPV2V layout or DAIR-V2X-C.")]
AgentsArg = Annotated[int | None, typer.Option(min=1, help="Agents that take part, ego included; 1 for the ego alone.")]
TypesArg = Annotated[
    str | None,
    typer.Option(
        "--types",
        help="Agent types: one for all agents, or several joined by commas, of which the ego gets the first, the others the next "
        "ones in turn; or an assignment file (JSON). By default the type that the base was trained with.",
    ),
]
CommRangeArg = Annotated[float, typer.Option(min=0, help="Agents further than this from the ego take no part.")]
EgoArg = Annotated[
    bool, typer.Option("--include-ego", help="Count the ego's own vehicle where others label it, as OPV2V's tools do.")
]
PrecisionArg = Annotated[str, typer.Option(help="float32 or bfloat16, which pays on GPUs and on CPUs with AMX.")]
CacheArg = Annotated[
    Path | None,
    typer.Option(help="Folder to keep sweeps, poses and labels in, decoded; made and filled as they are read, by default nowhere."),
]
ThreadsArg = Annotated[int, typer.Option(min=0, help="CPU threads; 0 for all cores.")]
