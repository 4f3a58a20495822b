"""One training from settings to weights, in this process or in several, with its progress on the screen."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from heal.agent_model import AgentModel
from heal.agents.process import keep_freed_memory
from heal.alliance import Alliance, load_alliance
from heal.base_model import BaseModel
from heal.collab_model import CollabModel
from heal.datasets.open import open_dataset
from heal.encoders.lift_splat_trunk import PretrainedWeightsError
from heal.tools.training.checkpoint import load_weights
from heal.tools.training.loop import StepReport, train
from heal.tools.training.step_log import MetricsLog, last_row
from heal.training.batches import TrainingSteps, steps_per_epoch
from heal.training.config import TrainConfig
from heal.training.replica import Replica

POLL_S = 0.5


@dataclass(frozen=True)
class TrainingJob:
    """What every process of a training is told; paths are absolute.

    Attributes:
        name: what its progress bar says.
        settings: of the run.
        data: folder of scenes.
        split: of the data.
        scenes: number of scenes in it.
        init: alliance to start from; with a frozen base, the one that the base belongs to.
        run: folder for checkpoints and logs.
        cache: folder to keep decoded data in.
    """

    name: str
    settings: TrainConfig
    data: Path
    split: str
    scenes: int
    init: Path | None
    run: Path
    cache: Path | None = None

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.settings.training.epochs * steps_per_epoch(self.scenes, self.settings.training)

    def work(self, replica: Replica) -> None:
        """Train to the end as one of the processes."""
        keep_freed_memory()
        model = make_model(self.settings, load_alliance(self.init) if self.init else None)
        steps = TrainingSteps(open_dataset(self.data, self.split, cache=self.cache), model, self.settings, replica)
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
        model = CollabModel(*_fresh(self.settings))
        return model, load_weights(self.run / "checkpoint.pt", model).seconds


def run_job(job: TrainingJob, device: torch.device, console: Console) -> None:
    """Train, here or in as many processes as the settings say.

    Raises:
        ConfigError: the precision does not fit the device.
        TrainingStoppedError: the loss became infinite or NaN.
        ReplicaError: one of several processes failed.
    """
    count = job.settings.training.replicas
    with follow([job], console):
        if count == 1:
            job.work(Replica(device=str(device)))
        else:
            from heal.agents.on_ray.replicas import run_replicas

            run_replicas(job.work, count, device.type == "cuda")


def run_jobs(jobs: Sequence[TrainingJob], device: torch.device, console: Console) -> None:
    """Train side by side, every job in a process of its own; as many at once as there are GPUs, or cores.

    Raises:
        ReplicaError: one of them failed.
    """
    from heal.agents.on_ray.replicas import run_alone

    with follow(jobs, console):
        run_alone([job.work for job in jobs], device.type == "cuda")


def make_model(settings: TrainConfig, initial: Alliance | None) -> CollabModel:
    """The networks, fresh from the settings' seed; what `initial` has of them has its weights."""
    torch.manual_seed(settings.training.seed)
    base, agents = _fresh(settings)
    if initial:
        base.load_state_dict(initial.base.state_dict())
    for name, agent in agents.items():
        if initial and not settings.training.frozen_base and name in initial.agent_names:
            agent.load_state_dict(initial.agent(name).state_dict())
        else:
            _load_pretrained(name, agent)
    return CollabModel(base, agents)


def _fresh(settings: TrainConfig) -> tuple[BaseModel, dict[str, AgentModel]]:
    grid = settings.base.grid
    return BaseModel(settings.base), {name: AgentModel(agent, grid) for name, agent in settings.agents.items()}


def _load_pretrained(name: str, agent: AgentModel) -> None:
    try:
        agent.load_pretrained()
    except PretrainedWeightsError as error:
        Console(stderr=True).print(f"{name} begins with random weights: {error}", markup=False, highlight=False)


@contextmanager
def follow(jobs: Sequence[TrainingJob], console: Console) -> Iterator[None]:
    """A bar for every job that follows its log, whichever process writes it."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    done = threading.Event()
    with Progress(*columns, console=console) as progress:
        bars = [(job, progress.add_task(job.name, total=job.steps)) for job in jobs]

        def watch() -> None:
            while not done.wait(POLL_S):
                _show(progress, bars)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            _show(progress, bars)


def _show(progress: Progress, bars: Sequence[tuple[TrainingJob, TaskID]]) -> None:
    for job, bar in bars:
        row = last_row(job.run)
        if row:
            text = f"{job.name}  epoch {row['epoch'] + 1}/{job.settings.training.epochs}  loss {row['total']:.3f}"
            progress.update(bar, completed=row["step"] + 1, description=text)
