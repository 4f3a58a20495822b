"""Find the scenes of a data set whose files are missing or damaged: a run stops before it begins, or goes on without them.

A scene counts as a whole: where a file of one agent is missing, its other agents are left out too, so that results with more and
with fewer agents are about the same scenes. Files of sensors that nobody asks for do not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from heal.datasets.dataset import Dataset, DatasetError, Origin, damage_error
from heal.datasets.files import IMAGE_ENDINGS, missing_cause
from heal.types import AgentFrame, ObjectLabels, SceneOutline, SceneSource, SensorChoice

# The sensor data that a run reads of a scene: pairs of an agent and a choice.
Reads = Callable[[SceneOutline], Iterable[tuple[str, SensorChoice]]]


def of_every_agent(choice: SensorChoice) -> Reads:
    """Return that a run reads the same sensor data of every agent."""
    return lambda outline: [(agent_id, choice) for agent_id in outline.agent_ids]


def require_images(source: Dataset, scenes: Iterable[int], reads: Reads) -> None:
    """Check that there is any camera image, if agents with cameras take part; the search ends at the first image.

    Raises:
        DatasetError: the data set has no image at all; the message says where they are expected, and how scenes get them.
    """
    reading = [(index, *read) for index in scenes for read in reads(source.listed(index)) if read[1].cameras]
    needed = [(index, agent_id, replace(choice, depth=False)) for index, agent_id, choice in reading]
    try:
        expected = _first_missing(image_files(source, *each)[0] for each in needed)
    except DatasetError:
        return  # a list or metadata that cannot be read is named where all files are looked for
    if not needed or expected is None:
        return
    where = f"expected files such as {expected[0]}" if expected else "no agent lists any"
    raise DatasetError(
        source.summary.root,
        f"no camera image is there for the agents whose types have cameras, {where}; `heal generate --sensors all` writes images, "
        "those of a published data set are archives of their own; or choose types without cameras",
    )


def _first_missing(groups: Iterable[list[Path]]) -> list[Path] | None:
    """Return the first group of files that is not empty; None if any file of any group exists."""
    first: list[Path] = []
    for paths in groups:
        if any(path.exists() for path in paths):
            return None
        first = first or paths
    return first


def image_files(source: Dataset, index: int, agent_id: str, choice: SensorChoice) -> tuple[list[Path], list[Path]]:
    """Return the image files of an agent in a scene, and its depth images if the choice has depth, whether or not they exist.

    Raises:
        DatasetError: a list or metadata cannot tell them.
    """

    def files(cameras: bool, depth: bool = False) -> tuple[Path, ...]:
        return source.frame_origin(index, agent_id, replace(choice, cameras=cameras, depth=depth)).files

    others, images = files(cameras=False), files(cameras=True)
    depths = files(cameras=True, depth=True) if choice.depth else ()
    of_images = [path for path in images if path not in others and path.suffix.lower() in IMAGE_ENDINGS]
    return of_images, [path for path in depths if path not in images]


def has_images(source: Dataset, scenes: Iterable[int], depth: bool = False) -> bool:
    """Whether any image, or any depth image, of any agent exists in some scenes; agents whose files cannot be told have none."""
    choice = SensorChoice(lidar=False, cameras=True, depth=depth)
    for index in scenes:
        for agent_id in source.listed(index).agent_ids:
            try:
                of_images, of_depth = image_files(source, index, agent_id, choice)
            except DatasetError:
                continue  # no such sensor, or metadata that cannot be read, which is named where the scene is read
            if any(path.exists() for path in (of_depth if depth else of_images)):
                return True
    return False


def require_files(source: Dataset, scenes: Iterable[int], reads: Reads) -> None:
    """Check that all files of some scenes are there; none is read.

    Raises:
        DatasetError: files are missing; the message lists them.
    """
    missing = {error.path: error for index in scenes for error in _missing_files(source, index, reads)}
    if missing:
        raise damage_error(list(missing.values()))


def find_damaged(source: Dataset, scenes: Iterable[int], reads: Reads) -> dict[int, tuple[str, str]]:
    """Read some scenes, and return those that cannot be read: index -> id of the scene, and the damage."""
    damages = ((index, _damage(source, index, reads)) for index in scenes)
    return {index: (source.listed(index).scene_id, f"{damage}; the scene is left out") for index, damage in damages if damage}


class ChosenScenes:
    """Some scenes of a source, numbered anew.

    Attributes:
        source: the source of all scenes.
        scenes: indices of the chosen ones.
    """

    def __init__(self, source: SceneSource, scenes: Sequence[int]) -> None:
        """Choose scenes by their indices."""
        self.source, self.scenes = source, tuple(scenes)

    def __len__(self) -> int:
        """Return the number of chosen scenes."""
        return len(self.scenes)

    def outline(self, index: int) -> SceneOutline:
        """Return the outline of a chosen scene."""
        return self.source.outline(self.scenes[index])

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """Read the frame of an agent in a chosen scene."""
        return self.source.agent_frame(self.scenes[index], agent_id, choice)

    def scene_objects(self, index: int) -> ObjectLabels | None:
        """Return the labels of a chosen scene as a whole."""
        return self.source.scene_objects(self.scenes[index])


def _missing_files(source: Dataset, index: int, reads: Reads) -> Iterator[DatasetError]:
    """Return an error for every file of a scene that is not there, and for a file that should name others and cannot be used."""
    origins = [source.scene_origin(index), *(_origin(source, index, *read) for read in reads(source.listed(index)))]
    for origin in origins:
        if isinstance(origin, DatasetError):
            yield origin
        else:
            yield from (DatasetError(path, missing_cause(path)) for path in origin.files if not path.exists())


def _origin(source: Dataset, index: int, agent_id: str, choice: SensorChoice) -> Origin | DatasetError:
    try:
        return source.frame_origin(index, agent_id, choice)
    except DatasetError as error:
        return error


def _damage(source: Dataset, index: int, reads: Reads) -> DatasetError | None:
    """Read everything of a scene that a run reads; return the error of the first file that is missing or damaged."""
    try:
        source.outline(index)
        source.scene_objects(index)
        for agent_id, choice in reads(source.listed(index)):
            source.agent_frame(index, agent_id, choice)
    except DatasetError as error:
        return error
    return None
