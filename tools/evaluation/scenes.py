"""The scenes of an evaluation through the networks: in this process, or whole recordings at a time in several processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby

from heal.agent_types import TypesOf
from heal.agents.local_runtime import LocalRuntime
from heal.agents.options import RunOptions
from heal.agents.records import TickResult
from heal.alliance import Alliance
from heal.tools.evaluation.compute import Compute
from heal.tools.evaluation.read_ahead import KeptScenes, SceneReader, read_ahead, sensors_by_type
from heal.tools.shared.processes import in_processes
from heal.tools.shared.scoring import RunScore
from heal.types import SceneOutline, SceneSource, recording_of


@dataclass(frozen=True)
class Evaluated:
    """What is evaluated: networks, scenes, the options of a run, whether the scores keep the boxes, and the sensors of types."""

    alliance: Alliance
    source: SceneSource
    types_of: TypesOf
    options: RunOptions
    keep_boxes: bool = False
    sensors: Mapping[str, str] = field(default_factory=dict)

    @property
    def range_m(self) -> tuple[float, ...]:
        """The evaluated range: that of the alliance's grid."""
        return self.alliance.grid.range_m


@dataclass(frozen=True)
class PartScore:
    """The score of some scenes, and those of their results that hold views, for pictures."""

    score: RunScore
    shown: list[TickResult] = field(default_factory=list)


def results_of(evaluated: Evaluated, ticks: Sequence[int], compute: Compute) -> Iterator[TickResult]:
    """Yield the results of scenes in this process, with links on which every message arrives."""
    options, scenes = evaluated.options, KeptScenes(evaluated.source)
    sensors = sensors_by_type(evaluated.alliance, evaluated.options) if compute.workers else {}
    reader = SceneReader(evaluated.source, evaluated.types_of, sensors, options, evaluated.range_m)
    due = read_ahead(scenes, reader, ticks, compute.workers)
    device, batch = compute.devices[0], compute.batch
    with LocalRuntime(evaluated.alliance, scenes, evaluated.types_of, options=options, device=device, batch=batch) as runtime:
        for result in runtime.run(due):
            yield replace(result, visibility=scenes.visibility(result.tick, evaluated.range_m))
            scenes.forget(result.tick)


def part_scores(evaluated: Evaluated, parts: Sequence[Sequence[int]], compute: Compute) -> Iterator[PartScore]:
    """Yield the score of each part of the scenes, in order, from several processes; a part is computed as if it were all scenes."""
    yield from in_processes(_evaluate_part, parts, compute.processes, partial(_hold, evaluated, compute))


def recordings_of(ticks: Sequence[int], outlines: Sequence[SceneOutline]) -> list[list[int]]:
    """Divide scenes into their recordings: a fusion node remembers nothing from one recording to the next.

    Args:
        ticks: indices of the scenes.
        outlines: of these scenes.
    """
    named = [(recording_of(outline.scene_id), tick) for tick, outline in zip(ticks, outlines, strict=True)]
    return [[tick for _, tick in group] for _, group in groupby(named, lambda pair: pair[0])]


# In a process of a pool: what is evaluated, and how.
_held: list[tuple[Evaluated, Compute]] = []


def _hold(evaluated: Evaluated, compute: Compute, number: int) -> None:
    _held.append((evaluated, compute.of_process(number)))


def _evaluate_part(ticks: Sequence[int]) -> PartScore:
    evaluated, compute = _held[-1]
    keeps, sensors = evaluated.keep_boxes, evaluated.sensors
    part = PartScore(RunScore(evaluated.range_m, evaluated.options.use_z, keep_boxes=keeps, sensors=sensors))
    for result in results_of(evaluated, ticks, compute):
        part.score.add(result, result.visibility)
        if evaluated.options.keeps_views_of(result.tick):
            part.shown.append(result)
    return part
