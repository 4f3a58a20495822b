"""What an evaluation runs: the scenes, the agent types, the egos and the options of each run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from heal.agent_types import TypesOf
from heal.agents.content.items import require_cloud_reader
from heal.agents.fusion.host import require_base
from heal.agents.options import RunOptions
from heal.alliance import Alliance
from heal.datasets.assignment import with_ego
from heal.datasets.dataset import Dataset, DatasetSummary, OnDamage
from heal.errors import UserError
from heal.tools.evaluation.compute import Compute
from heal.tools.evaluation.scenes import recordings_of
from heal.tools.evaluation.shown import Shown, sensor_kinds
from heal.tools.shared.compared_runs import BLIND, Earlier, read_earlier
from heal.tools.shared.lines import lidar_lines_of, require_lines
from heal.tools.shared.made_by import ScenesRecord
from heal.tools.shared.output import Output
from heal.tools.shared.scoring import RunScore, spread_evenly
from heal.tools.shared.sources import choose_scenes, sensors_of
from heal.tools.shared.type_argument import parse_types, split_names, with_egos
from heal.types import SceneOutline, SceneSource


@dataclass(frozen=True)
class EvaluatedScenes:
    """The scenes of an evaluation.

    Attributes:
        source: the scenes, with their egos.
        summary: of the data set.
        types_of: the agents of a scene and their types.
        ticks: indices of the scenes to evaluate.
        outlines: of these scenes, without poses.
        lidar_lines: laser lines of the clouds that agents read, by type; 64 stands for the agent's own cloud.
    """

    source: SceneSource
    summary: DatasetSummary
    types_of: TypesOf
    ticks: Sequence[int]
    outlines: Sequence[SceneOutline]
    lidar_lines: Mapping[str, int]


def choose_evaluated(
    source: Dataset, count: int | None, recorded: ScenesRecord, alliance: Alliance, options: RunOptions, on_damage: OnDamage | Path
) -> EvaluatedScenes:
    """Return `count` scenes, or all, of those that can be read, with the agent types and the egos of the command line."""
    require_lines(options.lidar_lines, alliance, source)
    egos = split_names(recorded.ego_type)
    types_of = parse_types(recorded.types, alliance, source, egos)
    spread = spread_evenly(range(len(source)), count or len(source))
    ticks, summary = choose_scenes(source, spread, sensors_of(alliance, types_of, options), on_damage)
    outlines = [with_ego(outline, types_of(outline), egos) for outline in map(source.listed, ticks)]
    lines = lidar_lines_of(alliance, options, sorted({name for outline in outlines for name in types_of(outline).values()}))
    return EvaluatedScenes(with_egos(source, types_of, egos), summary, types_of, ticks, outlines, lines)


@dataclass(frozen=True)
class Plan:
    """Everything that an evaluation needs.

    Attributes:
        alliance: the networks.
        source: the scenes.
        summary: of the data set.
        types_of: the agents of a scene and their types.
        ticks: indices of the scenes to evaluate.
        runs: the options of each run, by name.
        drawn: the scenes to draw.
        output: where the results go, and what makes them.
        earlier: the evaluation to compare with.
        compute: where and how it computes.
        recordings: the scenes of each recording; processes share them.
        save_detections: whether scenes.npz has the boxes too.
        lidar_lines: as in `EvaluatedScenes`.
        shown: the measures in the tables.
    """

    alliance: Alliance
    source: SceneSource
    summary: DatasetSummary
    types_of: TypesOf
    ticks: Sequence[int]
    runs: Mapping[str, RunOptions]
    drawn: frozenset[int]
    output: Output
    earlier: Earlier | None
    compute: Compute
    recordings: Sequence[Sequence[int]]
    save_detections: bool = False
    lidar_lines: Mapping[str, int] = field(default_factory=dict)
    shown: Shown = field(default_factory=Shown)

    def empty_score(self, options: RunOptions) -> RunScore:
        """Return the score of a run before its first scene."""
        sensors, edges_m = sensor_kinds(self.alliance), self.shown.edges_m
        return RunScore(
            self.alliance.grid.range_m, options.use_z, keep_boxes=self.save_detections, sensors=sensors, edges_m=edges_m
        )

    @property
    def read(self) -> dict[str, Any]:
        """What was read of the data set, and what of it was chosen, noted and skipped, for metrics.json."""
        return {"data": self.summary.record(), "lidar_lines": dict(self.lidar_lines)}


def plan_of(
    alliance: Alliance,
    scenes: EvaluatedScenes,
    runs: Mapping[str, RunOptions],
    pictures: int,
    output: Output,
    against: Path | None,
    compute: Compute,
    save_detections: bool,
    shown: Shown,
) -> Plan:
    """Return the plan of an evaluation, which draws some scenes; where egos have no LiDAR, it has the runs with a blind ego too.

    Raises:
        UserError: the base or the agent types cannot do what a run asks of it, or the earlier evaluation is of other scenes.
    """
    for options in runs.values():
        require_base(alliance.base, options)
        require_cloud_reader(options, alliance)
    drawn = frozenset(spread_evenly(scenes.ticks, pictures))
    runs = {name: replace(options, keep_views=drawn) for name, options in runs.items()}
    runs = with_blind_egos(runs) if has_camera_egos(alliance, scenes.outlines, scenes.types_of) else runs
    earlier = read_earlier(against, scenes.outlines)
    of_scenes = (scenes.source, scenes.summary, scenes.types_of, scenes.ticks)
    recordings = recordings_of(scenes.ticks, scenes.outlines)
    return Plan(alliance, *of_scenes, runs, drawn, output, earlier, compute, recordings, save_detections, scenes.lidar_lines, shown)


def evaluation_runs(in_order: str | None, options: RunOptions) -> dict[str, RunOptions]:
    """Return the options of each run of an evaluation, by name: of one run, or with `--in-order` of one run for each agent type.

    Raises:
        UserError: `options` limit the agents, which `--in-order` does itself.
    """
    if in_order is None:
        return {{None: "all agents", 1: "ego alone"}.get(options.agents, f"{options.agents} agents"): options}
    if options.agents is not None:
        raise UserError(f"--agents {options.agents}: --in-order chooses the number of agents itself; give one of the two")
    names = split_names(in_order)
    return {" + ".join(names[:count]): replace(options, agents=count) for count in range(1, len(names) + 1)}


def with_blind_egos(runs: Mapping[str, RunOptions]) -> dict[str, RunOptions]:
    """Add to each run of several agents the same run with a blind ego."""
    result: dict[str, RunOptions] = {}
    for name, options in runs.items():
        result[name] = options
        if options.agents != 1:
            result[f"{name}{BLIND}"] = replace(options, blind_ego=True)
    return result


def has_camera_egos(alliance: Alliance, outlines: Iterable[SceneOutline], types_of: TypesOf) -> bool:
    """Return whether the ego has cameras and no LiDAR in a scene with other agents."""
    assigned = ((outline.ego_id, types_of(outline)) for outline in outlines)
    egos = {types[ego_id] for ego_id, types in assigned if ego_id in types and len(types) > 1}
    return any(not alliance.agent(name).sensor.lidar for name in egos)
