"""Everything that a simulation needs, its checks, and its runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from heal.agent_types import TypesOf
from heal.agents.joining import require_joins
from heal.agents.network.spec import LinkSpec
from heal.agents.options import RunOptions
from heal.agents.runtime import Runtime, open_runtime
from heal.alliance import Alliance
from heal.datasets.noise import SensorNoise
from heal.tools.checks.fit import DataFit
from heal.tools.checks.planned_faults import require_targets
from heal.tools.evaluation.shown import sensor_kinds
from heal.tools.shared.output import Output
from heal.tools.shared.run_log import RunLog
from heal.tools.shared.run_settings import RunSettings
from heal.tools.viewer.viewer import RunViewer
from heal.types import SceneSource


@dataclass(frozen=True)
class RunScenes:
    """The scenes of a simulation.

    Attributes:
        source: the scenes.
        ticks: indices of the scenes to run.
        types_of: the agents of a scene and their types.
        data: what the reader of a data set chose, noted and left out; empty for the town.
    """

    source: SceneSource
    ticks: Sequence[int]
    types_of: TypesOf
    data: dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """Everything that a simulation needs.

    Attributes:
        alliance: the networks.
        scenes: the scenes to run.
        settings: options of the run, deployment, links and noise.
        output: where the results go, and what makes them.
        seed: of links and noise.
        runtime: "ray" or "local".
        pictures: whether to draw every tick.
        viewer: the 3D view.
    """

    alliance: Alliance
    scenes: RunScenes
    settings: RunSettings
    output: Output
    seed: int
    runtime: str
    pictures: bool
    viewer: RunViewer

    @property
    def range_m(self) -> tuple[float, ...]:
        """x_min, y_min, z_min, x_max, y_max, z_max of the alliance's grid."""
        return self.alliance.grid.range_m

    def empty_log(self) -> RunLog:
        """Return the log of the run before its first tick."""
        return RunLog.of(self.settings.run, self.range_m, sensor_kinds(self.alliance))


def check(plan: Plan) -> None:
    """Refuse planned faults that can hit nothing, and warn where a data set does not fit the alliance; the town fits.

    With regions agents need not be near the ego.
    """
    scenes, settings = plan.scenes, plan.settings
    require_targets(settings.deployment.faults, plan.runtime, scenes.source, scenes.ticks, scenes.types_of)
    if scenes.data:
        DataFit(plan.alliance, settings.run).warn(scenes.source, scenes.ticks, scenes.types_of)


def open_run(plan: Plan, options: RunOptions) -> Runtime:
    """Open the runtime of a plan, with its links and its noise; UserError for agents that cannot do what they are to."""
    settings = plan.settings
    if options.joins:
        first = plan.scenes.source.outline(plan.scenes.ticks[0])
        types = plan.scenes.types_of(first)
        require_joins(options.joins, first, types, options.agents)
    source = SensorNoise.parse(settings.noise).around(plan.scenes.source, plan.seed)
    network = LinkSpec.parse(settings.link).network(plan.seed)
    return open_runtime(plan.runtime, plan.alliance, source, plan.scenes.types_of, network, options, settings.deployment)
