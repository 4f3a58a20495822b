"""Judge the labels of one agent in one scene: places, sizes and angles that no vehicle has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from heal.box_corners import H, L, W, X, Y, Z, corners_to_boxes
from heal.datasets.dataset import DatasetError
from heal.datasets.doctor.finding import Finding
from heal.datasets.files import METADATA_ENDINGS, errors_naming, read_json
from heal.datasets.labels import WITHOUT_SIZE, dair_left_out
from heal.datasets.opv2v.metadata import read_metadata
from heal.se3 import inverse_SE3, transform_points
from heal.types import AgentFrame, BoolMask, Float64

FURTHEST_M, HIGHEST_M = 300.0, 40.0
LONGEST_M, WIDEST_M, TALLEST_M, SHORTEST_M = 35.0, 5.0, 6.0, 0.4
LYING_DEG = 30.0
MOST_NAMED = 5


def check_labels(frame: AgentFrame, path: Path) -> Iterator[Finding]:
    """Yield findings about the labels of an agent, which lie in the file `path`."""
    boxes = corners_to_boxes(transform_points(inverse_SE3(frame.world_SE3_agent), frame.objects.world_corners))
    ids = frame.objects.ids
    distance = np.hypot(boxes[:, X], boxes[:, Y])
    far = (distance > FURTHEST_M) | (np.abs(boxes[:, Z]) > HIGHEST_M)
    texts = [f"object {ids[row]} is {distance[row]:.0f} m away, {boxes[row, Z]:.0f} m up" for row in np.flatnonzero(far)]
    yield from _finding("label-range", path, f"objects within {FURTHEST_M:g} m of the agent", texts)
    odd = (
        (boxes[:, L] > LONGEST_M) | (boxes[:, W] > WIDEST_M) | (boxes[:, H] > TALLEST_M) | (boxes[:, [L, W, H]].min(1) < SHORTEST_M)
    )
    across = boxes[:, W] > 1.2 * boxes[:, L]
    lying = _is_lying(frame)
    odd &= ~lying
    texts = [f"object {ids[row]} is {_size_text(boxes[row])}" for row in np.flatnonzero(odd)]
    yield from _finding("label-size", path, "length, width and height of a vehicle in metres", texts)
    texts = [f"object {ids[row]} lies on its side or its end" for row in np.flatnonzero(lying)]
    texts += [f"object {ids[row]} is wider than long, {_size_text(boxes[row])}" for row in np.flatnonzero(across & ~lying & ~odd)]
    yield from _finding("label-turned", path, "objects that stand upright and are longer than wide", texts)
    if without := _without_size(path):
        yield from _finding("label-size", path, "length, width and height above 0", [f"{without} objects {WITHOUT_SIZE}"])


def _finding(kind: str, path: Path, expected: str, texts: list[str]) -> Iterator[Finding]:
    if texts:
        more = [f"and {len(texts) - MOST_NAMED} more"] if len(texts) > MOST_NAMED else []
        yield Finding(kind, path, expected, "; ".join([*texts[:MOST_NAMED], *more]))


def _size_text(box: Float64) -> str:
    return f"{box[L]:.1f} x {box[W]:.1f} x {box[H]:.1f} m"


def _is_lying(frame: AgentFrame) -> BoolMask:
    """Tell which objects do not stand upright: their edge from the bottom to the top is far from vertical."""
    up = frame.objects.world_corners[:, 4] - frame.objects.world_corners[:, 0]
    height = np.maximum(np.linalg.norm(up, axis=1), 1e-9)
    lying: BoolMask = up[:, 2] / height < np.cos(np.radians(LYING_DEG))
    return lying


def _without_size(path: Path) -> int:
    """Return the number of labels in a file that have no size; 0 for a file that cannot be read, or of another form."""
    try:
        if path.suffix == ".yaml":
            return read_metadata(path.with_suffix("")).left_out.get(WITHOUT_SIZE, 0)
        values = read_json(path) if path.suffix in METADATA_ENDINGS else None
        if isinstance(values, list):
            with errors_naming(path):
                return dair_left_out(values)[WITHOUT_SIZE]
        return read_metadata(path.with_suffix("")).left_out.get(WITHOUT_SIZE, 0) if isinstance(values, dict) else 0
    except DatasetError:
        return 0
