"""One training from settings to weights, in this process or in several, with its progress on the screen."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from heal.agent_model import AgentModel
from heal.agents.replica import Replica
from heal.alliance import Alliance, load_alliance
from heal.base_model import BaseModel
from heal.collab import CollabModel
from heal.datasets.open import open_dataset
from heal.tools.checkpoint import load_weights
from heal.tools.metrics_log import MetricsLog, last_row
from heal.tools.process import keep_freed_memory
from heal.tools.train_config import StageOneConfig
from heal.tools.train_data import TrainingSteps
from heal.tools.train_loop import StepReport, train

POLL_S = 0.5


@dataclass(frozen=True)
class TrainingJob:
    """What every process of a training is told; paths are absolute.

    Attributes:
        settings: of the run.
        data: folder of scenes.
        split: of the data.
        init: alliance to start from.
        run: folder for checkpoints and logs.
    """

    settings: StageOneConfig
    data: Path
    split: str
    init: Path | None
    run: Path

    def work(self, replica: Replica) -> None:
        """Train to the end as one of the processes."""
        keep_freed_memory()
        model = make_model(self.settings, load_alliance(self.init) if self.init else None)
        steps = TrainingSteps(open_dataset(self.data, self.split), model, self.settings, replica)
        log: MetricsLog | None = None

        def report(step: StepReport) -> None:
            nonlocal log
            log = log or MetricsLog(self.run, step.step)
            log.write(step)

        try:
            train(model, steps, self.settings, self.run, report, replica)
        finally:
            if log:
                log.close()

    def trained(self) -> tuple[CollabModel, float]:
        """The networks as the last checkpoint has them, and the seconds that they took."""
        model = make_model(self.settings, None)
        return model, load_weights(self.run / "checkpoint.pt", model).seconds


def run_job(job: TrainingJob, device: torch.device, steps: int, console: Console) -> None:
    """Train, here or in as many processes as the settings say.

    Raises:
        ConfigError: the precision does not fit the device.
        TrainingStoppedError: the loss became infinite or NaN.
        ReplicaError: one of several processes failed.
    """
    count = job.settings.training.replicas
    with _progress_of(job.run, steps, job.settings.training.epochs, console):
        if count == 1:
            job.work(Replica(device=str(device)))
        else:
            from heal.agents.ray_replicas import run_replicas

            run_replicas(job.work, count, device.type == "cuda")


def make_model(settings: StageOneConfig, initial: Alliance | None) -> CollabModel:
    """The networks, fresh from the settings' seed or with the weights of an alliance."""
    torch.manual_seed(settings.training.seed)
    base_model, agent = BaseModel(settings.base), AgentModel(settings.agent, settings.base.grid)
    if initial:
        base_model.load_state_dict(initial.base.state_dict())
        agent.load_state_dict(initial.agent(settings.agent_type).state_dict())
    return CollabModel(base_model, {settings.agent_type: agent})


@contextmanager
def _progress_of(run: Path, steps: int, epochs: int, console: Console) -> Iterator[None]:
    """A bar that follows the log of a training, whichever process writes it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    done = threading.Event()
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("training", total=steps)

        def show(row: dict[str, Any] | None) -> None:
            if row:
                text = f"epoch {row['epoch'] + 1}/{epochs}  loss {row['total']:.3f}"
                bar.update(task, completed=row["step"] + 1, description=text)

        def follow() -> None:
            while not done.wait(POLL_S):
                show(last_row(run))

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        try:
            yield
        finally:
            done.set()
            follower.join()
            show(last_row(run))
