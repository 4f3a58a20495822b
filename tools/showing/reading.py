"""Read a scene to look at: every sensor whose files are there; damaged files are named, and the other sensors are still shown."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from heal.datasets.dataset import Dataset, DatasetError
from heal.datasets.files import IMAGE_ENDINGS
from heal.datasets.lidar import CLOUD_ENDINGS
from heal.errors import UserError
from heal.types import AgentFrame, ObjectLabels, Scene, SceneOutline, SceneSource, SensorChoice

DATA_ENDINGS = (*CLOUD_ENDINGS, *IMAGE_ENDINGS)
LABELS_ALONE = SensorChoice(lidar=False)
CLOUD = SensorChoice()
IMAGES = SensorChoice(lidar=False, cameras=True)
IMAGES_AND_DEPTH = SensorChoice(lidar=False, cameras=True, depth=True)


@dataclass(frozen=True)
class ReadScene:
    """A scene, and a line for every file of it that is there but cannot be read."""

    scene: Scene
    troubles: tuple[str, ...] = ()


def read_scene(source: SceneSource, index: int, agents: Collection[str] | None = None, images: bool = True) -> ReadScene:
    """Read scene `index` with all sensors.

    Args:
        source: the data set, or the town.
        index: number of the scene.
        agents: the agents to show, of which the first in the scene's order becomes the ego if the ego is not among them; None: all.
        images: whether images and depth are read.

    Raises:
        DatasetError: the scene's poses or labels cannot be read.
        UserError: none of `agents` is in the scene.
    """
    outline = source.outline(index)
    chosen = _chosen_agents(outline, agents)
    read = [_read_agent(source, index, agent_id, images) for agent_id in chosen]
    frames = tuple(frame for frame, _ in read)
    if outline.ego_id not in chosen:
        outline = replace(outline, ego_id=chosen[0], world_SE3_ego=frames[0].world_SE3_agent)
    objects = source.scene_objects(index) if outline.labelled_as_whole else None
    if objects is None:
        objects = ObjectLabels.union([frame.objects for frame in frames])
    troubles = dict.fromkeys(line for _, lines in read for line in lines)  # a damaged image is met with and without depth
    return ReadScene(Scene(replace(outline, agent_ids=chosen), frames, objects), tuple(troubles))


def _chosen_agents(outline: SceneOutline, agents: Collection[str] | None) -> tuple[str, ...]:
    chosen = tuple(agent_id for agent_id in outline.ego_first if agents is None or agent_id in agents)
    if not chosen:
        raise UserError(f"scene {outline.scene_id}: none of the agents asked for; there are {', '.join(outline.ego_first)}")
    return chosen


def _read_agent(source: SceneSource, index: int, agent_id: str, images: bool) -> tuple[AgentFrame, list[str]]:
    """Read an agent's labels, then its sensors one by one; return its frame, and lines about what cannot be read."""
    frame = source.agent_frame(index, agent_id, LABELS_ALONE)
    troubles: list[str] = []
    cloud = _read_sensor(source, index, agent_id, CLOUD, LABELS_ALONE, troubles)
    seen = _read_sensor(source, index, agent_id, IMAGES_AND_DEPTH, IMAGES, troubles) if images else None
    if images and seen is None:
        seen = _read_sensor(source, index, agent_id, IMAGES, LABELS_ALONE, troubles)
    return replace(frame, lidar=cloud.lidar if cloud else None, cameras=seen.cameras if seen else ()), troubles


def _read_sensor(
    source: SceneSource, index: int, agent_id: str, choice: SensorChoice, without: SensorChoice, troubles: list[str]
) -> AgentFrame | None:
    """Read an agent's frame with one more sensor than `without` has; None if no file of the sensor is there, or one is damaged."""
    if isinstance(source, Dataset) and not _is_there(source, index, agent_id, (choice, without)):
        return None
    try:
        return source.agent_frame(index, agent_id, choice)
    except ValueError as error:  # a DatasetError, or sizes that do not fit each other, such as those of an image and its depth
        troubles.append(f"{agent_id}: {error}")
        return None


def _is_there(source: Dataset, index: int, agent_id: str, choices: Sequence[SensorChoice]) -> bool:
    """Whether any cloud or image exists that the first choice needs and the second one does not."""
    try:
        needed, others = (source.frame_origin(index, agent_id, choice).files for choice in choices)
    except DatasetError:
        return False  # a list that names no such files, or a data set without the folder for them
    return any(path.exists() for path in needed if path.suffix.lower() in DATA_ENDINGS and path not in others)
