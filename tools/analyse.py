"""`heal analyse`: how an alliance fuses and how alike its types' features are, as pictures and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from heal.alliance import Alliance, load_alliance
from heal.errors import UserError
from heal.tools.analysis.features import TypeFeatures, type_features
from heal.tools.analysis.figures import draw_projection, draw_similarity, draw_weights
from heal.tools.analysis.projection import Projection, project, require_kind
from heal.tools.analysis.similarity import cka_matrix
from heal.tools.analysis.weights import SceneWeights, scene_weights
from heal.tools.shared.arguments import AllianceArg, CommRangeArg, OverwriteArg, SourceArg, SourceSplitArg
from heal.tools.shared.made_by import ScenesRecord
from heal.tools.shared.output import ANALYSIS_NAME, Output, try_folder
from heal.tools.shared.preset_option import PresetArg
from heal.tools.shared.sources import TOWN, ReadOptions, open_source
from heal.tools.shared.type_argument import parse_types, require_types, split_names
from heal.tools.terminal.progress import track

EXAMPLES = """\b
heal analyse --alliance configs/demo/alliance --out runs/analysis
heal analyse --alliance configs/demo/alliance --types m1,m3 --scenes 20 --preset dense --projection tsne --out runs/analysis-lidars
"""
console = Console()

OutArg = Annotated[Path, typer.Option(help="Folder for run.yaml, analysis.json and the pictures.")]
TypesArg = Annotated[
    str | None,
    typer.Option(
        help="Agent types to compare, separated by commas; in the pictures of fusion weights the first is the ego's and the next "
        "ones are the other agents' in turn. Default: all."
    ),
]
ScenesArg = Annotated[int, typer.Option(min=1, help="Number of scenes whose features are compared, evenly from the source.")]
PicturesArg = Annotated[int, typer.Option(min=0, help="Number of these scenes whose fusion weights are drawn, from the first on.")]
SeedArg = Annotated[int, typer.Option(min=0, help="Seed of the town, and of the cells that are drawn.")]
ProjectionArg = Annotated[str, typer.Option(help="Features in two dimensions: pca, or tsne, which needs the extra [analysis].")]


@dataclass(frozen=True)
class Analysis:
    """The results of an analysis.

    Attributes:
        features: of all types at the same cells.
        weights: of the first scenes.
        projection: of the features at vehicles; None where there are too few.
    """

    features: TypeFeatures
    weights: tuple[SceneWeights, ...]
    projection: Projection | None


def analyse(
    context: typer.Context,
    alliance: AllianceArg,
    out: OutArg,
    overwrite: OverwriteArg = False,
    source: SourceArg = TOWN,
    preset: PresetArg = "demo",
    split: SourceSplitArg = None,
    types: TypesArg = None,
    scenes: ScenesArg = 8,
    pictures: PicturesArg = 3,
    seed: SeedArg = 1,
    comm_range_m: CommRangeArg = 70.0,
    projection: ProjectionArg = "pca",
) -> None:
    """Show how an alliance fuses, and how alike its types' features are.

    The weights of all agents in the fusion at every scale; linear CKA between the aligned features of every two types, at vehicles
    and everywhere; and the features at vehicles in two dimensions. For the features every type encodes the same agent, the ego, so
    the source must have the sensors of all types there; cells that one of them does not cover are left out.
    """
    kind, opened = require_kind(projection), load_alliance(alliance)
    names = split_names(types) or list(opened.agent_names)
    require_types(names, opened)
    if opened.base.config.pyramid.single_agent:
        raise UserError(f"{alliance}: the base is a single-agent detector, which fuses nothing; analyse an alliance that fuses")
    output = Output.of(context, out, overwrite, opened, ScenesRecord.of(source, preset, split, ",".join(names), seed))
    reading = ReadOptions(classes=opened.base.config.object_classes)
    opened, town = opened.for_inference(), open_source(source, preset, split, None, seed, reading)
    try_folder(out)
    ticks = np.unique(np.linspace(0, len(town) - 1, scenes).astype(int)).tolist()
    features = type_features(opened, names, town, track(ticks, "scenes", len(ticks), console), seed)
    types_of = parse_types(",".join(names), opened, town)
    weights = tuple(scene_weights(opened, town, types_of, tick, comm_range_m) for tick in ticks[:pictures])
    analysis = Analysis(features, weights, project(features.foreground, kind, seed))
    output.start()
    output.write_results(results_of(analysis), ANALYSIS_NAME)
    draw(analysis, opened, output)
    console.print(f"numbers: {out / ANALYSIS_NAME}   pictures: {out}", highlight=False)


def results_of(analysis: Analysis) -> dict[str, Any]:
    """Return the numbers of an analysis as plain values."""
    features, projection = analysis.features, analysis.projection
    return {
        "types": list(features.types),
        "similarity": {
            name: {"cells": len(parts[0]), "cka": cka_matrix(parts)}
            for name, parts in (("vehicles", features.foreground), ("everywhere", features.everywhere))
        },
        "projection": projection and {"kind": projection.kind, "explained": projection.explained},
        "weights": [{"scene": scene.scene_id, "agents": scene.means()} for scene in analysis.weights],
    }


def draw(analysis: Analysis, alliance: Alliance, output: Output) -> None:
    """Draw all pictures of an analysis into its output."""
    features, margin = analysis.features, output.made_by.margin
    matrices = {"at vehicles": cka_matrix(features.foreground), "everywhere": cka_matrix(features.everywhere)}
    draw_similarity(features.types, matrices, output.folder / "similarity.png", margin)
    if analysis.projection is not None:
        draw_projection(features.types, analysis.projection, output.folder / "projection.png", margin)
    for number, scene in enumerate(analysis.weights, 1):
        draw_weights(scene, alliance.grid, output.folder / f"weights_{number}.png", margin)
