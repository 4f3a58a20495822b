"""What a data set on disk offers beyond its scenes: what was found, and which files each thing is made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from heal.datasets.summary import DatasetSummary
from heal.types import ObjectLabels, SceneSource, SensorChoice


@dataclass(frozen=True)
class Origin:
    """All that something read from disk depends on: while these stay as they are, so does what is read.

    Attributes:
        name: what decides it beside the files, such as the scene and who takes part.
        files: those that are read for it, in a fixed order.
    """

    name: str
    files: tuple[Path, ...]


class Dataset(SceneSource, Protocol):
    """A source that lies on disk.

    Attributes:
        summary: what was found and what was skipped.
        choice: what is read where `agent_frame` is not given a choice.
    """

    summary: DatasetSummary
    choice: SensorChoice

    @property
    def scenario_agents(self) -> dict[str, tuple[str, ...]]:
        """All agents of every scenario."""
        ...

    def scene_objects(self, index: int) -> ObjectLabels:
        """Labels of the scene as a whole."""
        ...

    def frame_origin(self, index: int, agent_id: str, choice: SensorChoice) -> Origin:
        """What `agent_frame` depends on, images and depth left aside; KeyError if the agent takes no part."""
        ...

    def scene_origin(self, index: int) -> Origin:
        """What `outline` and `scene_objects` depend on."""
        ...
