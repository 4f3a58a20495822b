"""Scenes that other processes read before their turn comes, so that the networks need not wait for disks and decoders."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from torch.utils.data import Dataset

from heal.agent_types import TypesOf
from heal.agents.interfaces import AllianceLike
from heal.agents.joining import Joining
from heal.agents.options import RunOptions
from heal.agents.reach import POSE_ALONE, reach_of
from heal.datasets.dataset import DatasetError
from heal.detection.visibility import SceneVisibility, scene_visibility
from heal.errors import UserError
from heal.tools.training.loading import load_batches
from heal.types import AgentFrame, ObjectLabels, SceneOutline, SceneSource, SensorChoice, load_scene

Answer = TypeVar("Answer")


class KeptScenes:
    """A source that keeps what has been read of a scene until the scene is forgotten."""

    def __init__(self, source: SceneSource) -> None:
        """Wrap a source of which nothing has been read."""
        self._source = source
        self._answers: dict[int, dict[tuple[object, ...], Any]] = {}

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self._source)

    def outline(self, index: int) -> SceneOutline:
        """Return the outline of a scene."""
        return self._answer(index, ("outline",), lambda: self._source.outline(index))

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """Return the frame of an agent."""
        return self._answer(index, ("frame", agent_id, choice), lambda: self._source.agent_frame(index, agent_id, choice))

    def scene_objects(self, index: int) -> ObjectLabels | None:
        """Return the labels of a scene as a whole; None if the source has none."""
        return self._answer(index, ("objects",), lambda: self._source.scene_objects(index))

    def visibility(self, index: int, range_m: Sequence[float]) -> SceneVisibility | None:
        """Return which vehicles are hidden from the ego in a scene; None if a cloud of any agent is missing or damaged."""
        return self._answer(index, ("visibility", *range_m), lambda: _visibility(self._source, index, range_m))

    def keep(self, scene: ReadScene) -> None:
        """Take in what another process has read."""
        self._answers[scene.index] = scene.answers

    def kept(self, index: int) -> ReadScene:
        """Return what has been read of a scene."""
        return ReadScene(index, self._answers.get(index, {}))

    def forget(self, index: int) -> None:
        """Forget a scene."""
        self._answers.pop(index, None)

    def _answer(self, index: int, question: tuple[object, ...], ask: Callable[[], Answer]) -> Answer:
        answers = self._answers.setdefault(index, {})
        if question not in answers:
            answers[question] = ask()
        answer: Answer = answers[question]
        return answer


@dataclass(frozen=True)
class ReadScene:
    """What has been read of a scene, by what was asked of the source."""

    index: int
    answers: dict[tuple[object, ...], Any]


@dataclass(frozen=True)
class SceneReader(Dataset[ReadScene]):
    """Reads of a scene what its evaluation will ask for.

    Attributes:
        source: the scenes.
        types_of: the agents of a scene and their types.
        sensors: the sensors of each agent type.
        options: of the run.
        range_m: the evaluated range.
    """

    source: SceneSource
    types_of: TypesOf
    sensors: Mapping[str, SensorChoice]
    options: RunOptions
    range_m: Sequence[float]

    def __getitem__(self, index: int) -> ReadScene:
        """Read a scene; whatever cannot be read is left to the run, where the error belongs."""
        scenes = KeptScenes(self.source)
        with suppress(Exception):
            self._read(scenes, index)
        return scenes.kept(index)

    def _read(self, scenes: KeptScenes, index: int) -> None:
        outline = scenes.outline(index)
        is_reached = reach_of(scenes, index, outline.ego_id, self.options.ego_range_m)
        joining = Joining((), self.options.agents, lambda _: "")
        types, _ = joining.taking_part(index, outline, self.types_of(outline), is_reached)
        for agent_id in outline.agent_ids:
            scenes.agent_frame(index, agent_id, self.sensors[types[agent_id]] if agent_id in types else POSE_ALONE)
        scenes.scene_objects(index)
        scenes.visibility(index, self.range_m)


def sensors_by_type(alliance: AllianceLike, options: RunOptions) -> dict[str, SensorChoice]:
    """Return the sensor data that the types of an alliance read in a run; types that cannot be opened are left out."""
    sensors = {}
    for name in alliance.agent_names:
        with suppress(UserError):
            sensors[name] = options.sensor_of(name, alliance.agent(name).sensor)
    return sensors


def read_ahead(scenes: KeptScenes, reader: SceneReader, indices: Sequence[int], workers: int) -> Iterator[int]:
    """Yield the indices of scenes, each once its scene has been read; without workers at once, and every scene is read in its turn.

    Args:
        scenes: take what has been read.
        reader: reads in the other processes.
        indices: of the scenes, in order.
        workers: number of loading processes, which are two scenes ahead each.
    """
    if not workers:
        yield from indices
        return
    for scene in load_batches(reader, indices, workers):
        scenes.keep(scene)
        yield scene.index


def _visibility(source: SceneSource, index: int, range_m: Sequence[float]) -> SceneVisibility | None:
    try:
        return scene_visibility(load_scene(source, index), range_m)
    except DatasetError:
        return None
