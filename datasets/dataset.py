"""The interface of a data set on disk: a source of scenes with a summary, and the files that each scene is read from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from heal.errors import UserError
from heal.types import ObjectLabels, SceneSource, SensorChoice

# Pairs of a scenario, agent or frame that a reader leaves out, and the reason.
Skipped = list[tuple[str, str]]


class Dataset(SceneSource, Protocol):
    """A source of scenes that lie on disk.

    Attributes:
        summary: the scenes that were found, and everything that was skipped.
        choice: the sensor data that `agent_frame` reads without a choice of the caller's.
    """

    summary: DatasetSummary
    choice: SensorChoice

    @property
    def scenario_agents(self) -> dict[str, tuple[str, ...]]:
        """The ids of all agents of every scenario."""
        ...

    def scene_objects(self, index: int) -> ObjectLabels:
        """Read the labels of scene `index` as a whole."""
        ...

    def frame_origin(self, index: int, agent_id: str, choice: SensorChoice) -> Origin:
        """Return the files behind `agent_frame`, without images and depth images.

        Raises:
            UnknownAgentError: the agent is not in the scene.
        """
        ...

    def scene_origin(self, index: int) -> Origin:
        """Return the files behind `outline` and `scene_objects`."""
        ...


@dataclass(frozen=True)
class DatasetSummary:
    """The contents of an opened data set; as text, a line of numbers and a line for everything that was skipped.

    Attributes:
        layout: "OPV2V" or "DAIR-V2X-C".
        root: the folder.
        split: its name on disk, such as "validate".
        scenarios: number of recordings.
        frames: number of scenes.
        agents: number of agents, each counted once per recording.
        skipped: pairs of a part of the data set that was left out, and the reason.
        labels: the labels that the reader chose, such as "complemented labels"; empty where there is no choice.
        notes: everything else that whoever reads the numbers has to know, such as the labelled objects that do not count.
    """

    layout: str
    root: Path
    split: str
    scenarios: int
    frames: int
    agents: int
    skipped: tuple[tuple[str, str], ...] = ()
    labels: str = ""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the lines to print when a data set is opened."""
        counts = f"{self.frames} frames in {self.scenarios} scenarios, {self.agents} agents"
        first = f"{self.layout} {self.root} ({self.split}): {counts}{', ' if self.labels else ''}{self.labels}"
        notes = [f"  {note}" for note in self.notes]
        return "\n".join([first, *notes, *(f"  skipped {part}: {reason}" for part, reason in self.skipped)])


@dataclass(frozen=True)
class Origin:
    """Everything that a value read from disk depends on: an equal origin with unchanged files gives an equal value.

    Attributes:
        name: the part of the data set, such as the scene and the agents that take part.
        files: the files that are read, in a fixed order.
    """

    name: str
    files: tuple[Path, ...]


class DatasetError(UserError):
    """Data on disk that cannot be used; the message names the file and the cause.

    Attributes:
        path: the offending file or folder.
        cause: the reason, with the expected and the actual content.
    """

    def __init__(self, path: Path, cause: str) -> None:
        """Make an error for a file or folder."""
        super().__init__(path, cause)
        self.path = path
        self.cause = cause

    def __str__(self) -> str:
        """Return the path and the cause in one line."""
        return f"{self.path}: {' '.join(self.cause.split())}"


class UnknownAgentError(DatasetError, KeyError):
    """An agent that is not in a scene; the message lists the agents of the scene."""
