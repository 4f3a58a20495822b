"""The pictures of an analysis: fusion weights of a scene, similarity of types, and their features in two dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heal.atomic_write import replacing
from heal.grid import BevGrid
from heal.tools.analysis.projection import Projection
from heal.tools.analysis.weights import SceneWeights
from heal.tools.pictures.margin import write_margin

_COLORS = ("#1f6feb", "#d9822b", "#8250df", "#1a7f37", "#cf222e", "#57606a")


def draw_weights(scene: SceneWeights, grid: BevGrid, path: Path, margin: str = "") -> None:
    """Draw a row for each agent and a column for each scale; the outlines are labelled vehicles."""
    agents, scales = len(scene.agent_ids), len(scene.weights)
    figure = _figure(3.1 * scales + 0.8, 3.0 * agents * grid.ny / grid.nx + 0.9)
    axes = figure.subplots(agents, scales, squeeze=False, sharex=True, sharey=True)
    x_min, y_min, _, x_max, y_max, _ = grid.range_m
    for row, (agent_id, kind) in enumerate(zip(scene.agent_ids, scene.agent_types, strict=True)):
        for column, level in enumerate(scene.weights):
            place = axes[row][column]
            image = place.imshow(level[row], origin="lower", extent=(x_min, x_max, y_min, y_max), vmin=0, vmax=1, cmap="viridis")
            if scene.vehicles.any():
                place.contour(scene.vehicles, levels=[0.5], extent=(x_min, x_max, y_min, y_max), colors="white", linewidths=0.5)
            place.set_title(f"{agent_id} ({kind}), scale {column + 1}", fontsize=8)
    figure.colorbar(image, ax=axes, shrink=0.6, label="weight in the fusion")
    figure.suptitle(f"{scene.scene_id}, in the frame of {scene.agent_ids[0]}, metres", fontsize=9)
    _save(figure, path, margin)


def draw_similarity(
    types: Sequence[str], matrices: Mapping[str, Sequence[Sequence[float | None]]], path: Path, margin: str
) -> None:
    """Draw the matrices of CKA, by the name of the cells."""
    figure = _figure(3.6 * len(matrices), 3.6)
    for axes, (name, rows) in zip(figure.subplots(1, len(matrices), squeeze=False)[0], matrices.items(), strict=True):
        axes.imshow([[float("nan") if value is None else value for value in row] for row in rows], vmin=0, vmax=1, cmap="viridis")
        for i, row in enumerate(rows):
            for j, value in enumerate(row):
                text, color = ("n/a", "black") if value is None else (f"{value:.2f}", "black" if value > 0.6 else "white")
                axes.text(j, i, text, ha="center", va="center", color=color, fontsize=8)
        axes.set_xticks(range(len(types)), types)
        axes.set_yticks(range(len(types)), types)
        axes.set_title(f"linear CKA, {name}", fontsize=9)
    _save(figure, path, margin)


def draw_projection(types: Sequence[str], projection: Projection, path: Path, margin: str = "") -> None:
    """Draw the features at vehicles in two dimensions, in a colour for each type."""
    figure = _figure(5.2, 4.6)
    axes = figure.subplots()
    for place, (name, points) in enumerate(zip(types, projection.points, strict=True)):
        axes.scatter(points[:, 0], points[:, 1], s=6, alpha=0.6, color=_COLORS[place % len(_COLORS)], label=name)
    shares = projection.explained
    label = {"pca": "principal component", "tsne": "t-SNE"}[projection.kind]
    axes.set_xlabel(f"{label} 1" + (f" ({shares[0]:.0%})" if shares else ""))
    axes.set_ylabel(f"{label} 2" + (f" ({shares[1]:.0%})" if shares else ""))
    axes.legend(fontsize=8)
    axes.set_title("aligned features at labelled vehicles", fontsize=9)
    _save(figure, path, margin)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def _save(figure: Any, path: Path, margin: str) -> None:
    write_margin(figure, margin)
    with replacing(path) as temporary:
        figure.savefig(temporary)
