"""The interface of a data set on disk: a source of scenes with a summary, and the files that each scene is read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from heal.detection.classes import Classes
from heal.errors import UserError
from heal.types import ObjectLabels, SceneOutline, SceneSource, SensorChoice

# Pairs of a scenario, agent or frame that a reader leaves out, and the reason.
Skipped = list[tuple[str, str]]
# What becomes of a scene with a missing or damaged file: it ends the run, or it is left out.
OnDamage = Literal["stop", "skip"]
# The ground truth of data sets whose agents number their objects independently: the labels that the data set itself joins, or the
# labels of all agents without those that overlap.
LabelRule = Literal["joint", "merged"]
# Who collaborates with whom, as V2X-Real calls it: a vehicle as the ego with vehicles and roadside units ("vc"), a roadside unit as
# the ego with both ("ic"), vehicles alone ("v2v"), roadside units alone ("i2i").
Collaboration = Literal["vc", "ic", "v2v", "i2i"]
MOST_LISTED = 20


@runtime_checkable
class Dataset(SceneSource, Protocol):
    """A source of scenes that lie on disk.

    Attributes:
        summary: the scenes that were found, and everything that was skipped.
        choice: the sensor data that `agent_frame` reads without a choice of the caller's.
        classes: the classes of the objects, whose numbers the labels carry.
    """

    summary: DatasetSummary
    choice: SensorChoice
    classes: Classes

    @property
    def scenario_agents(self) -> dict[str, tuple[str, ...]]:
        """The ids of all agents of every scenario."""
        ...

    @property
    def beams(self) -> tuple[int, ...]:
        """The laser lines that a `SensorChoice` may name; the largest stands for the agent's own cloud, whatever lines it has."""
        ...

    def scene_objects(self, index: int) -> ObjectLabels:
        """Read the labels of scene `index` as a whole."""
        ...

    def listed(self, index: int) -> SceneOutline:
        """Return the outline of scene `index` as far as the lists of the data set tell it: the pose is the identity."""
        ...

    def frame_origin(self, index: int, agent_id: str, choice: SensorChoice) -> Origin:
        """Return the files behind `agent_frame`.

        Raises:
            UnknownAgentError: the agent is not in the scene.
            DatasetError: the file that names the others cannot be used.
        """
        ...

    def scene_origin(self, index: int) -> Origin:
        """Return the files behind `outline` and `scene_objects`."""
        ...


@dataclass(frozen=True)
class DatasetSummary:
    """The contents of an opened data set; as text, a line of numbers and a line for everything that was skipped.

    Attributes:
        layout: "DAIR-V2X-C", "OPV2V", or the name of another data set in OPV2V's layout.
        root: the folder.
        split: its name on disk, such as "validate".
        scenarios: number of recordings.
        frames: number of scenes.
        agents: number of agents, each counted once per recording.
        skipped: pairs of a part of the data set that was left out, and the reason.
        labels: the labels that the reader chose, such as "complemented labels"; empty where there is no choice.
        notes: everything else that whoever reads the numbers has to know, such as the labelled objects that do not count.
        damaged: number of scenes that are left out because a file of theirs is missing or damaged; `skipped` names them.
        ground_truth: how the labels make the ground truth of a scene, "joint" or "merged"; empty where there is no choice.
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
    damaged: int = 0
    ground_truth: str = ""

    @property
    def labels_text(self) -> str:
        """What the scenes are scored against, such as "original labels, joint ground truth"; empty where there is no choice."""
        return f"{self.labels}, {self.ground_truth} ground truth" if self.ground_truth else self.labels

    def without(self, damaged: Skipped) -> DatasetSummary:
        """Return the summary without some more scenes, each given by its id and its damage."""
        count, skipped = len(damaged), (*self.skipped, *damaged)
        return replace(self, frames=self.frames - count, skipped=skipped, damaged=self.damaged + count)

    def record(self) -> dict[str, Any]:
        """Return what the reader chose, noted and left out, to be written beside the results."""
        left_out = {"notes": self.notes, "damaged_scenes": self.damaged, "skipped": self.skipped}
        return {"labels": self.labels, "ground_truth": self.ground_truth, **left_out}

    def __str__(self) -> str:
        """Return the lines to print when a data set is opened."""
        counts = f"{self.frames} frames in {self.scenarios} scenarios, {self.agents} agents"
        first = f"{self.layout} {self.root} ({self.split}): {counts}{', ' if self.labels else ''}{self.labels_text}"
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


def damage_error(damaged: Sequence[DatasetError]) -> DatasetError:
    """Return one error that lists the damaged files, at most `MOST_LISTED` of them, and says how to go on without their scenes."""
    first, *others = damaged
    listed = [first.cause, *map(str, others[: MOST_LISTED - 1])]
    listed += [f"and {len(damaged) - MOST_LISTED} more files"] if len(damaged) > MOST_LISTED else []
    remedy = "heal evaluate, simulate and train go on without their scenes with --on-damage skip"
    return DatasetError(first.path, f"{'; '.join(listed)}; {remedy}")


class UnknownAgentError(DatasetError, KeyError):
    """An agent that is not in a scene; the message lists the agents of the scene."""
