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
from heal.types import SceneOutline, SensorChoice

VALIDATE = "validate"
DATA_NAME = "data.json"  # in the run folder: what the reader of the data set chose, noted and left out


def choose_training_scenes(jobs: Sequence[TrainingJob], source: Dataset) -> tuple[list[TrainingJob], DatasetSummary]:
    """Return trainings on the scenes that can be read, and the summary of the data set without the others.

    All trainings have the same scenes: those in which the sensor data of every agent can be read for every agent type.

    Raises:
        DatasetError: as `choose_scenes`.
    """
    scenes = range(len(source))
    chosen, summary = choose_scenes(source, scenes, _reads(jobs), jobs[0].reading.on_damage)
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
    chosen, _ = choose_scenes(source, scenes, _reads(jobs), jobs[0].reading.on_damage)
    validation = ValidationSplit(source.summary.split, frozenset(scenes) - frozenset(chosen))
    return [replace(job, validation=validation) for job in jobs]


def _open_validation(job: TrainingJob, split: str | None) -> Dataset | str:
    """Open the validation split of a training; return the reason if no split is asked for and the data has none."""
    if split is None and VALIDATE in names_of(job.split):
        return f"the training uses the split {job.split} itself"
    try:
        return job.reading.open(job.data, split or VALIDATE)
    except NoSplitError as error:
        if split is not None:
            raise
        return str(error)
    except DatasetError as error:
        raise UserError(f"{error}; --set training.validate_every_epochs=0 trains without validation") from error


def _reads(jobs: Sequence[TrainingJob]) -> Reads:
    """Return which sensor data trainings read of a scene: of every agent those of all agent types."""
    sensors = dict.fromkeys(agent.sensor_in_training for job in jobs for agent in job.settings.agents.values())

    def reads(outline: SceneOutline) -> list[tuple[str, SensorChoice]]:
        return [(agent_id, choice) for agent_id in outline.agent_ids for choice in sensors]

    return reads
