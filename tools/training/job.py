"""One training from settings to weights, in this process or in several, with progress bars."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress, TaskID
from torch import nn

from heal.agent_model import AgentModel
from heal.agents.process import keep_freed_memory
from heal.alliance import Alliance, ValidationRecord, load_alliance
from heal.base_model import BaseModel
from heal.collab_model import CollabModel
from heal.config import ConfigError
from heal.datasets.damage import ChosenScenes
from heal.datasets.dataset import Dataset
from heal.device import require_gpus
from heal.encoders.lift_splat_trunk import PretrainedWeightsError
from heal.errors import UserError
from heal.layers.compressor import Compressor
from heal.storage.parts import require_storable
from heal.tools.shared.sources import ReadOptions
from heal.tools.terminal.progress import new_progress
from heal.tools.training.checkpoint import BEST_NAME, CHECKPOINT_NAME, load_best, load_weights
from heal.tools.training.loop import StepReport, train
from heal.tools.training.step_log import StepLog, last_row
from heal.tools.training.teacher import load_teacher
from heal.tools.training.validator import Validator
from heal.training.batches import TrainingSteps, steps_per_epoch
from heal.training.config import TrainingConfig
from heal.training.distillation import require_teacher
from heal.training.replica import Replica
from heal.training.step import make_scaler
from heal.training.validation import ValidationScenes

POLL_S = 0.5


@dataclass(frozen=True)
class ValidationSplit:
    """The scenes that validate a training.

    Attributes:
        split: split of the data.
        left_out: indices of its scenes that take no part, because their files are missing or damaged.
    """

    split: str
    left_out: frozenset[int] = frozenset()


@dataclass(frozen=True)
class TrainingResult:
    """What a training hands on.

    Attributes:
        model: the networks: with the best weights if the training was validated, else with the last ones.
        epochs: number of epochs of the training.
        seconds: duration of the training.
        validation: the validation of the best weights; None for the last ones.
    """

    model: CollabModel
    epochs: int
    seconds: float
    validation: ValidationRecord | None


@dataclass(frozen=True)
class TrainingJob:
    """The description of a training, sent to each of its processes; paths are absolute.

    Attributes:
        name: label of the progress bar: the agent type, "base", or "ae8" for a compressor of ratio 8.
        settings: networks, loss, augmentation and schedule.
        data: folder of scenes.
        split: split of the data.
        scenes: number of scenes in the split, without those of `left_out`.
        init: alliance to start from; with a frozen base, the alliance of this base, and of the types if a compressor is trained.
        init_agent: folder of a trained type with the same networks, in its alliance; an alignment to a frozen base starts from it.
            With `training.fix_encoder` the aligner may be another one.
        run: folder for checkpoints and logs.
        reading: how the data are read.
        left_out: indices of the scenes that take no part, because their files are missing or damaged.
        validation: the scenes that validate the training; None for no validation.
    """

    name: str
    settings: TrainingConfig
    data: Path
    split: str
    scenes: int
    init: Path | None
    run: Path
    reading: ReadOptions
    left_out: frozenset[int] = frozenset()
    validation: ValidationSplit | None = None
    init_agent: Path | None = None

    @property
    def steps(self) -> int:
        """Number of steps of the whole training."""
        return self.settings.training.epochs * steps_per_epoch(self.scenes, self.settings.training)

    def train_replica(self, replica: Replica) -> None:
        """Train to the last step as one of the processes."""
        keep_freed_memory()
        model = self._make_model()
        steps = TrainingSteps(self.open(), model, self.settings, replica, load_teacher(self.settings))
        log: StepLog | None = None

        def opened(first_step: int) -> StepLog:
            nonlocal log
            log = log or StepLog(self.run, first_step)
            return log

        def report(step: StepReport) -> None:
            opened(step.step).write(step)

        def report_validation(steps_done: int, record: ValidationRecord) -> None:
            opened(steps_done).write_validation(steps_done - 1, record)

        try:
            train(model, steps, self.settings, self.run, report, replica, self._validator(model, replica, report_validation))
        finally:
            if log:
                log.close()

    def _make_model(self, console: Console | None = None) -> CollabModel:
        initial = load_alliance(self.init) if self.init else None
        start = load_alliance(self.init_agent.parent).agent(self.init_agent.name) if self.init_agent else None
        return make_model(self.settings, initial, start, console)

    def _validator(self, model: CollabModel, replica: Replica, report: Callable[[int, ValidationRecord], None]) -> Validator | None:
        if self.validation is None:
            return None
        scenes = self.open_validation()
        assert scenes is not None
        return Validator(ValidationScenes(scenes, model, self.settings, replica), self.validation.split, self.run, report)

    @property
    def validation_reading(self) -> ReadOptions:
        """How the data that validate the training are read: with the agents of an evaluation."""
        return replace(self.reading, every_agent=False)

    def open_validation(self) -> ChosenScenes | None:
        """Open the scenes that validate the training; None if there are none."""
        if self.validation is None:
            return None
        return _without(self.validation_reading.open(self.data, self.validation.split), self.validation.left_out)

    def open(self) -> ChosenScenes:
        """Open the scenes of the training."""
        return _without(self.reading.open(self.data, self.split), self.left_out)

    def check(self, device: torch.device) -> None:
        """Check before anything is written that the training can begin, and that its result can be stored.

        Raises:
            AllianceError: a network has weights that cannot be stored, or there is no type `init_agent`.
            ConfigError: the precision does not fit the device, pretrained weights are not there or do not fit, or the aligner is to
                be trained alone and there is none, or no trained encoder.
            UserError: the scenes do not fill one batch, the type `init_agent` has other networks, the teacher does not fit the
                base, or there are fewer GPUs than replicas.
        """
        require_gpus(device, self.settings.training.replicas)
        make_scaler(self.settings.training, device)
        steps_per_epoch(self.scenes, self.settings.training)
        model, teacher = self._make_model(Console(stderr=True)), load_teacher(self.settings)
        if teacher is not None:
            require_teacher(model.base, teacher)
        if self.settings.training.fix_encoder:
            self._require_aligner(model.agent(self.name))
        require_storable(model)

    def _require_aligner(self, agent: AgentModel) -> None:
        """Raise ConfigError unless there is a trained encoder to be fixed, and an aligner to be trained."""
        fixed = "training.fix_encoder=true trains the aligner alone"
        if self.init_agent is None:
            raise ConfigError(f"{fixed}; name the type whose encoder and backbone are trained: heal train agent --init TYPE")
        if not list(agent.aligner.parameters()):
            raise ConfigError(f"{fixed}, and that of {self.name} has no weights; choose another aligner.kind in the type's file")

    def load_result(self) -> TrainingResult:
        """Return the networks with the best weights, or with those of the last checkpoint if there was no validation."""
        model = _new_networks(self.settings)
        progress = load_weights(self.run / CHECKPOINT_NAME, model)
        best = load_best(self.run / BEST_NAME, model) if self.validation else None
        return TrainingResult(model, progress.step // steps_per_epoch(self.scenes, self.settings.training), progress.seconds, best)


def _without(source: Dataset, left_out: frozenset[int]) -> ChosenScenes:
    """Return the scenes of a source without some of them."""
    return ChosenScenes(source, [index for index in range(len(source)) if index not in left_out])


def run_job(job: TrainingJob, device: torch.device, console: Console) -> None:
    """Train in this process, or in as many as the settings have replicas.

    Raises:
        ConfigError: the precision does not fit the device.
        TrainingStoppedError: as in `train`.
        ReplicaError: one of several processes failed.
    """
    count = job.settings.training.replicas
    with show_progress([job], console):
        if count == 1:
            job.train_replica(Replica(device=str(device)))
        else:
            from heal.agents.on_ray.replicas import run_replicas

            run_replicas(job.train_replica, count, device.type == "cuda")


def run_jobs(jobs: Sequence[TrainingJob], device: torch.device, console: Console) -> None:
    """Train several jobs at once, each in a process of its own: as many at a time as there are GPUs, or CPU cores.

    Raises:
        ReplicaError: one of the jobs failed.
    """
    from heal.agents.on_ray.replicas import run_alone

    with show_progress(jobs, console):
        run_alone([job.train_replica for job in jobs], device.type == "cuda")


def make_model(
    settings: TrainingConfig, initial: Alliance | None, start: AgentModel | None = None, console: Console | None = None
) -> CollabModel:
    """Make the networks of a training: with the weights of `initial` where it has them, else with random ones of the seed.

    A new agent type gets ImageNet weights if its settings ask for them and they can be loaded. With a frozen base (stage 2) every
    agent type is new, or has the weights of `start`; with `training.fix_encoder` its aligner is new. Where a compressor is trained,
    only the compressor is new.

    Args:
        settings: of the training.
        initial: alliance to start from, or that of the frozen base.
        start: network with a new type's first weights.
        console: where it is said that weights which timm publishes cannot be had.

    Raises:
        ConfigError: the package or the file with pretrained weights is not there or does not fit.
    """
    torch.manual_seed(settings.training.seed)
    model = _new_networks(settings)
    if initial:
        model.base.load_state_dict(initial.base.state_dict())
    for name in settings.agents:
        if not settings.training.frozen_base or settings.compressor:
            known = initial.agent(name) if initial and name in initial.agent_names else None
        else:
            known = start
        agent = model.agent(name)
        if known and settings.training.fix_encoder:
            _load_parts(name, [(agent.encoder, known.encoder), (agent.backbone, known.backbone)])
        elif known:
            _load_parts(name, [(agent, known)])
        else:
            _load_pretrained(name, agent, console)
    return model


def _load_parts(name: str, parts: Sequence[tuple[nn.Module, nn.Module]]) -> None:
    """Load into each first module the weights of the second; UserError if they have other names or shapes."""
    try:
        for part, known in parts:
            part.load_state_dict(known.state_dict())
    except RuntimeError as error:
        first = " ".join(str(error).splitlines()[:2])
        raise UserError(
            f"the type that {name} starts from (--init) has other networks than {name}: {first}; their weights must have equal "
            "names and shapes"
        ) from error


def _new_networks(settings: TrainingConfig) -> CollabModel:
    """Make all networks of a training with random weights."""
    base, grid = BaseModel(settings.base), settings.base.grid
    base.fusion.require_types(settings.agents)
    agents = {name: AgentModel(agent, grid) for name, agent in settings.agents.items()}
    return CollabModel(base, agents, None if settings.compressor is None else Compressor(settings.compressor))


def _load_pretrained(name: str, agent: AgentModel, console: Console | None) -> None:
    """Load pretrained weights; if timm cannot get those that it publishes, say so and keep the random ones."""
    try:
        agent.load_pretrained()
    except PretrainedWeightsError as error:
        if console:
            console.print(f"{name} starts with random weights: {error}", markup=False, highlight=False)
    except ConfigError as error:
        raise ConfigError(f"agents.{name}.{error}") from error


@contextmanager
def show_progress(jobs: Sequence[TrainingJob], console: Console) -> Iterator[None]:
    """Show a progress bar for every job, updated from the job's log, which another process may write."""
    done = threading.Event()
    with new_progress(console) as progress:
        bars = [(job, progress.add_task(job.name, total=job.steps)) for job in jobs]

        def watch() -> None:
            while not done.wait(POLL_S):
                _update_bars(progress, bars)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            _update_bars(progress, bars)


def _update_bars(progress: Progress, bars: Sequence[tuple[TrainingJob, TaskID]]) -> None:
    for job, bar in bars:
        row = last_row(job.run)
        if row:
            result = f"loss {row['total']:.3f}" if "total" in row else "validated"
            text = f"{job.name}  epoch {row['epoch'] + 1}/{job.settings.training.epochs}  {result}"
            progress.update(bar, completed=row["step"] + 1, description=text)
