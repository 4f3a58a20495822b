"""The work of a comparison: its plan in; the data sets, trainings and evaluations that are missing are made, and failures noted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from rich.console import Console

from heal.tools.comparing.data import DataFolder, folder_of, write_town
from heal.tools.comparing.evaluating import EvaluationTask, Networks, is_done
from heal.tools.comparing.plan import ComparePlan, Entrant, Training
from heal.tools.comparing.schedule import Outcome, Task, run_tasks
from heal.tools.comparing.spec import TownData
from heal.tools.comparing.training import ALLIANCE, TrainingTask

# The work of a frame, relative to that of a training with several agents.
_ALONE, _EVALUATED = 0.5, 0.7
_FRAMES_OF_FOLDER = 1000  # of a data set that has not been opened


@dataclass(frozen=True)
class Workshop:
    """A comparison in its folder.

    Attributes:
        plan: what it needs.
        out: its folder.
        devices: on which the networks compute, in turn.
    """

    plan: ComparePlan
    out: Path
    devices: tuple[str, ...] = ("cpu",)

    @property
    def evaluated(self) -> Path:
        """The folder of all evaluations."""
        return self.out / "evaluated"

    def data(self, name: str) -> DataFolder:
        """Return where a data set lies."""
        return folder_of(self.plan.spec.data[name], self.out)

    def trained(self, key: str) -> Path:
        """Return the folder of a training."""
        return self.out / "trained" / key

    def training_task(self, training: Training, device: str = "cpu") -> TrainingTask:
        """Return a training in its folder."""
        base, teacher = (self.trained(key) if key else None for key in (training.base, training.teacher))
        return TrainingTask(training, self.trained(training.key), base, teacher, self.data(training.data), device)

    def networks(self, entrant: Entrant) -> Networks:
        """Return where the networks of a trained method lie."""
        parts = tuple(self.trained(key) / ALLIANCE for key in entrant.trainings)
        spec, folder = self.plan.spec, self.out / "alliances" / entrant.folder_name
        return Networks(entrant.join, parts, tuple(spec.types), folder, spec.range_m)

    def missing_trainings(self) -> list[Training]:
        """Return the trainings that are not done, in an order in which they can be."""
        return [one for one in self.plan.trainings.values() if not self.training_task(one).is_done]

    def evaluation_task(self, entrant: Entrant, device: str = "cpu") -> EvaluationTask:
        """Return the evaluations of a method that are not done."""
        missing = tuple(one for one in entrant.evaluations if not is_done(one, self.evaluated))
        data, seed = self.data(entrant.data), self.plan.spec.run_seed
        return EvaluationTask(entrant, missing, self.networks(entrant), data, seed, self.evaluated, device)

    def prepare(self, workers: int, console: Console) -> None:
        """Write the scenes of the town that are not there, and open every data set, so that a wrong folder is named once."""
        for name, data in self.plan.spec.data.items():
            folder = self.data(name)
            if isinstance(data, TownData):
                write_town(data, folder.root, workers, console)
            for split in (folder.train, folder.test):
                console.print(f"{name}: {folder.reading.open(folder.root, split).summary}", markup=False, highlight=False)

    def tasks(self) -> list[Task]:
        """Return everything that is missing; trainings come before what needs them."""
        devices = cycle(self.devices)
        trainings = [(one, self.training_task(one, next(devices))) for one in self.missing_trainings()]
        open_keys = frozenset(one.key for one, _ in trainings)
        found = [
            Task(one.key, one.title, open_keys.intersection(one.needs), task.run, self._frames(one), task.share_done)
            for one, task in trainings
        ]
        for entrant in self.plan.entrants:
            if (task := self.evaluation_task(entrant, next(devices))).evaluations:
                frames = self._test_frames(entrant.data) * len(task.evaluations) * _EVALUATED
                title = f"evaluation of {entrant.title}"
                found.append(Task(entrant.folder_name, title, open_keys.intersection(entrant.trainings), task.run, frames))
        return found

    def run(self, workers: int, console: Console) -> Mapping[str, str]:
        """Make everything that is missing; return why trainings and evaluations have failed, by key."""
        self.prepare(workers, console)
        outcome = run_tasks(self.tasks(), workers, console)
        return {**outcome.failures, **self._failed_evaluations(outcome)}

    def _failed_evaluations(self, outcome: Outcome) -> dict[str, str]:
        """Return why evaluations could not be run: they were refused, or their method failed."""
        failed: dict[str, str] = {}
        for entrant in self.plan.entrants:
            failed |= outcome.results.get(entrant.folder_name, {})
            if (cause := outcome.failures.get(entrant.folder_name)) is not None:
                failed |= {one.key: cause for one in entrant.evaluations if not is_done(one, self.evaluated)}
        return failed

    def _frames(self, training: Training) -> float:
        data = self.plan.spec.data[training.data]
        frames = data.train_frames if isinstance(data, TownData) else _FRAMES_OF_FOLDER
        return training.epochs * frames * (_ALONE if training.agent_type else 1.0)

    def _test_frames(self, name: str) -> int:
        data = self.plan.spec.data[name]
        return data.test_frames if isinstance(data, TownData) else data.frames or _FRAMES_OF_FOLDER


def count_text(parts: Sequence[object], missing: Sequence[object], noun: str) -> str:
    """Return how many of some parts are there, and how many are missing."""
    return f"{len(parts)} {noun}: {len(parts) - len(missing)} there, {len(missing)} missing"
