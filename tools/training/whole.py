"""The beginning and the end of a training: checks before anything is written, the run folder, the result and its record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from rich.console import Console

from heal.alliance import Alliance, TrainingRecord
from heal.datasets.dataset import Dataset, DatasetSummary
from heal.detection.metrics import ap_text
from heal.tools.shared.output import write_json
from heal.tools.training.job import TrainingJob, TrainingResult
from heal.tools.training.run_folder import run_folders
from heal.tools.training.scenes import DATA_NAME, choose_training_scenes, choose_validation_scenes


def prepare(
    jobs: Sequence[TrainingJob], source: Dataset, val_split: str | None, device: torch.device, console: Console
) -> tuple[list[TrainingJob], DatasetSummary]:
    """Return trainings with their scenes and their validation, and the summary of the scenes, after all checks.

    Nothing is written yet.
    """
    chosen, summary = choose_training_scenes(jobs, source)
    prepared = choose_validation_scenes(chosen, val_split, console)
    for job in prepared:
        job.check(device)
    return prepared, summary


@contextmanager
def held_folders(jobs: Sequence[TrainingJob], summary: DatasetSummary, restart: bool, console: Console) -> Iterator[None]:
    """Hold the run folders of trainings in this context, with what was read of the data set written into each."""
    with run_folders([(job.run, job.settings) for job in jobs], restart, console):
        for job in jobs:
            write_json(job.run / DATA_NAME, summary.record())
        yield


def load_result(job: TrainingJob, console: Console) -> TrainingResult:
    """Load the result of a training, and print which weights it has if they were chosen by validation."""
    result = job.load_result()
    if result.validation:
        best, ap = result.validation, ", ".join(f"AP@{name} {ap_text(value)}" for name, value in result.validation.ap.items())
        console.print(
            f"{job.name} has the weights after epoch {best.epoch} of {result.epochs}, the best of the validations: "
            f"loss {best.loss:.3f}, {ap}, {best.scenes} scenes of {best.split}",
            markup=False,
            highlight=False,
        )
    return result


def training_record(job: TrainingJob, result: TrainingResult, initial: Alliance | None) -> TrainingRecord:
    """Return the record of a training that is stored with its weights."""
    training = job.settings.training
    return TrainingRecord(
        data=job.data.name,
        scenes=job.scenes,
        epochs=result.epochs,
        seconds=round(result.seconds, 1),
        seed=training.seed,
        initial=initial.base_hash if initial else "",
        agent_types=tuple(job.settings.agents),
        teacher=training.teacher_hash,
        validation=result.validation,
    )


def use_threads(threads: int) -> None:
    """Set the number of torch threads; 0 keeps torch's default."""
    if threads:
        torch.set_num_threads(threads)
