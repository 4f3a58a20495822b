"""The statistics of the honest maps of trained types, from the scenes of their training and of its validation.

A defended run tells lies from honest maps by them (docs/lying_senders.md). Limits from few places would turn down honest maps of
others, and a validation is often of few, so the scenes of the training are taken too.
"""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console

from heal.agent_model import AgentModel
from heal.alliance import Alliance, AllianceError
from heal.base_model import BaseModel
from heal.collab_model import CollabModel
from heal.datasets.dataset import DatasetError
from heal.defence.statistics import MapStatistics
from heal.errors import UserError
from heal.layers.inference import for_inference
from heal.tools.archive.recording import HonestMaps
from heal.tools.shared.scoring import spread_evenly
from heal.tools.shared.type_argument import base_type
from heal.tools.terminal.progress import track
from heal.tools.training.job import TrainingJob
from heal.tools.training.scenes import ScenesOfTraining
from heal.types import SceneSource


def statistics_of_base(model: CollabModel, job: TrainingJob, console: Console) -> dict[str, MapStatistics]:
    """Return the statistics of the types that a base was trained with, by type; without those of which too few maps are seen."""
    networks = {name: model.agent(name) for name in job.settings.agents}
    return _recorded(model.base, networks, next(iter(networks)), job, console)


def statistics_of_agent(alliance: Alliance, model: AgentModel, job: TrainingJob, console: Console) -> dict[str, MapStatistics]:
    """Return the statistics of a new type that is aligned to the base of an alliance, by its name; empty if too few maps are seen.

    An ego of the type must not dispute honest senders of the alliance's own type either, as far as the data have its sensors.
    """
    networks = {job.name: model.on_grid(alliance.sensed_grid), **_type_beside(alliance, job.name)}
    return _recorded(alliance.base, networks, list(networks)[-1], job, console)


def _type_beside(alliance: Alliance, name: str) -> dict[str, AgentModel]:
    """Return the type that the base was trained with, by its name; empty if there is none that can be used beside the new one."""
    try:
        beside = base_type(alliance)
        return {} if beside == name else {beside: alliance.agent(beside)}
    except AllianceError:
        return {}


def _recorded(
    base: BaseModel, networks: Mapping[str, AgentModel], beside: str, job: TrainingJob, console: Console
) -> dict[str, MapStatistics]:
    """Return the statistics of the types of a training, and print of how many maps they are, or why there are none."""
    training = job.settings.training
    if base.config.pyramid.single_agent or training.merge_points or not training.recorded_scenes:
        return {}  # single-agent detectors send boxes, and agents of early fusion points
    fast = {name: for_inference(network) for name, network in networks.items()}
    maps = HonestMaps(for_inference(base), fast, beside, training.comm_range_m)
    _add_scenes(maps, _scenes(job), console)
    found = {}
    for name in job.settings.agents:
        try:
            found[name] = maps.statistics(name)
            says = f"{found[name].maps} maps of {name} are recorded for the defence"
        except UserError as problem:
            says = f"no maps of {name} are recorded for the defence: {problem}"
        console.print(says, markup=False, highlight=False)
    return found


def _add_scenes(maps: HonestMaps, scenes: list[tuple[SceneSource, int]], console: Console) -> None:
    """Add scenes; of those that cannot be read, such as those without the sensors of the type beside, the part that can."""
    shown = track(scenes, "recording maps", len(scenes), console, transient=True)
    problems = [problem for source, index in shown if (problem := _add_scene(maps, source, index))]
    if problems:
        says = f"{len(problems)} of {len(scenes)} scenes are recorded for the defence in part: {problems[0]}"
        console.print(says, markup=False, highlight=False)


def _add_scene(maps: HonestMaps, source: SceneSource, index: int) -> str:
    """Add a scene, and return why it cannot be read; empty if it can."""
    try:
        maps.add(source, index)
    except DatasetError as error:
        return str(error)
    return ""


def _scenes(job: TrainingJob) -> list[tuple[SceneSource, int]]:
    """Return scenes of a training and of its validation, with the agents that take part."""
    training = job.settings.training
    opened = [ScenesOfTraining(source, training) for source in (job.open(), job.open_validation()) if source is not None]
    every = [(scenes, index) for scenes in opened for index in range(len(scenes))]
    return [every[i] for i in spread_evenly(range(len(every)), training.recorded_scenes)]
