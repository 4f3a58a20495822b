"""What a data set on disk offers beyond its scenes: what was found, and which files each thing is made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from heal.types import ObjectLabels, SceneSource, SensorChoice


@dataclass(frozen=True)
class DatasetSummary:
    """What was found and what was skipped.

    Attributes:
        layout: "OPV2V" or "DAIR-V2X-C".
        root: the folder.
        split: its name on disk, such as "validate".
        scenarios: number of recordings.
        frames: number of scenes.
        agents: number of agents, each counted once per recording.
        skipped: pairs of what was left out and why.
    """

    layout: str
    root: Path
    split: str
    scenarios: int
    frames: int
    agents: int
    skipped: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """One line, and one more for everything that was skipped."""
        lines = [
            f"{self.layout} {self.root} ({self.split}): {self.frames} frames in {self.scenarios} scenarios, {self.agents} agents"
        ]
        return "\n".join(lines + [f"  skipped {what}: {why}" for what, why in self.skipped])


class DatasetError(ValueError):
    """Data on disk that cannot be used; the message names the file and the cause."""

    def __init__(self, path: Path, cause: str) -> None:
        """Say which file and why.

        Args:
            path: the offending file or folder.
            cause: what was expected and what came.
        """
        super().__init__(path, cause)
        self.path = path
        self.cause = cause

    def __str__(self) -> str:
        """The file, then the cause."""
        return f"{self.path}: {self.cause}"


class UnknownAgentError(DatasetError, KeyError):
    """An agent that takes no part in a scene; the message names those that do."""


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
