"""The scenes of a training: those whose files are missing or damaged are an error, or are left out and recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from heal.datasets.damage import Reads
from heal.datasets.dataset import Dataset, DatasetError, DatasetSummary
from heal.datasets.split_names import NoSplitError, names_of
from heal.errors import UserError
from heal.tools.shared.sources import choose_scenes
from heal.tools.training.job import TrainingJob, ValidationSplit
from heal.training.batches import sensors_of
from heal.training.config import ScheduleConfig
from heal.training.drawing import agents_in_training
from heal.types import AgentFrame, ObjectLabels, SceneOutline, SceneSource, SensorChoice

VALIDATE = "validate"
DATA_NAME = "data.json"  # in the run folder: what the reader of the data set chose, noted and left out


class ScenesOfTraining:
    """The scenes of a source with the agents alone that take part in a training, by `training.agents_of`."""

    def __init__(self, source: SceneSource, training: ScheduleConfig) -> None:
        """Wrap a source whose scenes all have such an agent."""
        self.source, self.training = source, training

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self.source)

    def outline(self, index: int) -> SceneOutline:
        """Return the outline of a scene; the first agent that takes part is the ego if the scene's own does not."""
        outline = self.source.outline(index)
        ids = tuple(agents_in_training(outline, self.training))
        if outline.ego_id in ids:
            return replace(outline, agent_ids=ids)
        ego = self.source.agent_frame(index, ids[0], SensorChoice(lidar=False))
        return replace(outline, ego_id=ids[0], agent_ids=ids, world_SE3_ego=ego.world_SE3_agent)

    def agent_frame(self, index: int, agent_id: str, choice: SensorChoice | None = None) -> AgentFrame:
        """Read the frame of an agent."""
        return self.source.agent_frame(index, agent_id, choice)

    def scene_objects(self, index: int) -> ObjectLabels | None:
        """Return the labels of a scene as a whole, if all of its agents take part."""
        outline = self.source.outline(index)
        everybody = len(agents_in_training(outline, self.training)) == len(outline.agent_ids)
        return self.source.scene_objects(index) if everybody else None


def choose_training_scenes(jobs: Sequence[TrainingJob], source: Dataset) -> tuple[list[TrainingJob], DatasetSummary]:
    """Return trainings on the scenes that can be read, and the summary of the data set without the others.

    All trainings have the same scenes: those in which the sensor data of every agent can be read for every agent type.

    Raises:
        DatasetError: as `choose_scenes`.
    """
    scenes = range(len(source))
    readable, summary = choose_scenes(source, scenes, _reads(jobs), jobs[0].reading.on_damage)
    chosen = _with_agents(source, readable, jobs[0].settings.training)
    left_out = frozenset(scenes) - frozenset(chosen)
    return [replace(job, scenes=len(chosen), left_out=left_out) for job in jobs], summary


def choose_validation_scenes(jobs: Sequence[TrainingJob], split: str | None, console: Console) -> list[TrainingJob]:
    """Return trainings that are validated on the scenes of a split that can be read.

    Args:
        jobs: the trainings, with equal schedules.
        split: the split; None for "validate", if the data set has it and the training does not use it.
        console: where the split is described, or the reason is printed why there is no validation.

    Raises:
        UserError: the split cannot be used, or the schedule has patience without a validation to wait for.
    """
    training = jobs[0].settings.training
    source = _open_validation(jobs[0], split) if training.validate_every_epochs else "training.validate_every_epochs is 0"
    if isinstance(source, str):
        if training.patience:
            raise UserError(f"training.patience={training.patience} waits for validations, but there are none: {source}")
        console.print(f"no validation, so the last weights are the result: {source}", markup=False, highlight=False)
        return list(jobs)
    console.print(f"validation: {source.summary}", markup=False)
    scenes = range(len(source))
    readable, _ = choose_scenes(source, scenes, _reads(jobs), jobs[0].reading.on_damage)
    chosen = _with_agents(source, readable, training)
    validation = ValidationSplit(source.summary.split, frozenset(scenes) - frozenset(chosen))
    return [replace(job, validation=validation) for job in jobs]


def _with_agents(source: Dataset, scenes: Sequence[int], training: ScheduleConfig) -> list[int]:
    """Return the scenes with an agent of `training.agents_of`; UserError if there is none."""
    chosen = [index for index in scenes if agents_in_training(source.listed(index), training)]
    if scenes and not chosen:
        raise UserError(
            f"no scene of {source.summary.root} has an agent of training.agents_of={training.agents_of}; leave it at any"
        )
    return chosen


def _open_validation(job: TrainingJob, split: str | None) -> Dataset | str:
    """Open the validation split of a training; return the reason if no split is asked for and the data has none."""
    if split is None and VALIDATE in names_of(job.split):
        return f"the training uses the split {job.split} itself"
    try:
        return job.validation_reading.open(job.data, split or VALIDATE)
    except NoSplitError as error:
        if split is not None:
            raise
        return str(error)
    except DatasetError as error:
        raise UserError(f"{error}; --set training.validate_every_epochs=0 trains without validation") from error


def _reads(jobs: Sequence[TrainingJob]) -> Reads:
    """Return which sensor data trainings read of a scene: of every agent that takes part those of all agent types."""
    sensors = dict.fromkeys(choice for job in jobs for choice in sensors_of(job.settings).values())

    def reads(outline: SceneOutline) -> list[tuple[str, SensorChoice]]:
        return [(agent_id, choice) for agent_id in agents_in_training(outline, jobs[0].settings.training) for choice in sensors]

    return reads
