"""The runs that an evaluation compares: each with the run before, with a blind ego, and with an earlier evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from heal.detection.metrics import IouKind, Rule
from heal.measures.matches import SceneMatches
from heal.tools.shared.intervals import Comparison, compare, require_same_scenes
from heal.tools.shared.scene_matches import read_scenes
from heal.tools.shared.scoring import EGO_ALONE, RunScore
from heal.types import SceneOutline

BLIND = ", ego blind"  # ends the name of a run in which the ego's own map is not fused


@dataclass(frozen=True)
class Earlier:
    """An earlier evaluation of the same scenes.

    Attributes:
        folder: its folder.
        runs: the matches of its runs, by name.
    """

    folder: Path
    runs: Mapping[str, SceneMatches]

    @staticmethod
    def read(folder: Path, scene_ids: Sequence[str]) -> Earlier:
        """Read the evaluation in a folder; UserError unless all its runs are of these scenes."""
        runs = read_scenes(folder)
        for run in runs.values():
            require_same_scenes("this evaluation", scene_ids, str(folder), run.scene_ids.tolist())
        return Earlier(folder, runs)


def read_earlier(folder: Path | None, outlines: Sequence[SceneOutline]) -> Earlier | None:
    """Read an earlier evaluation of these scenes, if a folder is given."""
    return None if folder is None else Earlier.read(folder, [outline.scene_id for outline in outlines])


def matches_of(scores: Mapping[str, RunScore]) -> dict[str, SceneMatches]:
    """Return the matches of all runs by name, and first those of the ego alone if no run is that of the ego alone."""
    first = next(iter(scores.values()))
    alone = first.alone_matches() if first.agents > 1 else None
    return {**({} if alone is None else {EGO_ALONE: alone}), **{name: score.matches() for name, score in scores.items()}}


def compare_runs(
    scores: Mapping[str, RunScore], earlier: Earlier | None = None, rule: Rule = "global", iou: IouKind = "bev"
) -> list[Comparison]:
    """Compare runs over the same scenes, by a rule and an overlap of AP.

    Each run is compared with the one before it, the first with the ego alone; then with its twin with a blind ego; then with the
    run of the same name in an earlier evaluation. The last run is compared with the last one there if none has its name.

    Raises:
        UserError: the earlier evaluation was against other objects.
    """
    ours = matches_of(scores)
    sighted = _sighted(ours)
    pairs = list(zip(sighted[1:], sighted, strict=False))
    pairs += [(name.removesuffix(BLIND), name) for name in ours if name.endswith(BLIND)]
    found = [compare((run, ours[run]), (other, ours[other]), rule, iou) for run, other in pairs]
    if earlier is not None:
        same = {name: name for name in ours if name in earlier.runs}
        for name, other in {sighted[-1]: _sighted(earlier.runs)[-1], **same}.items():
            title = f"{earlier.folder}" if other == name else f"{earlier.folder}: {other}"
            found.append(compare((name, ours[name]), (title, earlier.runs[other]), rule, iou))
    return found


def _sighted(runs: Mapping[str, SceneMatches]) -> list[str]:
    """Return the names of the runs whose ego is not blind."""
    return [name for name in runs if not name.endswith(BLIND)]
