"""Pictures of the gain by each added agent: the scene in which the number of found vehicles rises most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from heal.agent_types import TypesOf
from heal.agents.interfaces import AllianceLike
from heal.agents.local_runtime import LocalRuntime
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.detection.metrics import IOU_THRESHOLDS, ApAccumulator, FrameMatch
from heal.tools.pictures.draw import draw_comparison
from heal.types import SceneSource

_AT = IOU_THRESHOLDS.index(0.5)


def draw_gains(
    alliance: AllianceLike,
    source: SceneSource,
    types_of: TypesOf,
    ticks: Sequence[int],
    runs: Mapping[str, tuple[RunOptions, ApAccumulator]],
    out: Path,
    margin: str = "",
    device: str = "cpu",
) -> list[Path]:
    """Draw, for each run and the one before it, the scene with the largest gain side by side; return the pictures.

    Args:
        alliance: the networks.
        source: the scenes.
        types_of: the agents of a scene and their types.
        ticks: indices of the scenes that were evaluated.
        runs: options and matches of each run, by name; each run has one agent more than the one before.
        out: folder of the pictures `gain_2.png` (from one agent to two) and on; none is written for a run without a gain.
        margin: text below the pictures.
        device: on which the networks compute.
    """
    names, pictures = list(runs), []
    for before, after in pairwise(names):
        gains = [_gain(*pair) for pair in zip(runs[before][1].frames, runs[after][1].frames, strict=True)]
        best, picture = int(np.argmax(gains)), out / f"gain_{runs[after][0].agents}.png"
        if gains[best] <= 0:
            continue
        fewer, more = (_run(alliance, source, types_of, runs[name][0], ticks[best], device) for name in (before, after))
        draw_comparison(fewer, more, alliance.grid.range_m, picture, captions=(before, after), margin=margin)
        pictures.append(picture)
    return pictures


def _gain(before: FrameMatch, after: FrameMatch) -> int:
    """Return how many objects of a scene more were found than before."""
    return int(after.found[_AT].sum()) - int(before.found[_AT].sum())


def _run(alliance: AllianceLike, source: SceneSource, types_of: TypesOf, options: RunOptions, tick: int, device: str) -> TickResult:
    shown = replace(options, keep_views=True, count_points=True)
    with LocalRuntime(alliance, source, types_of, options=shown, device=device) as runtime:
        return next(runtime.run([tick]))
