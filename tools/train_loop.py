"""Training as a plain loop: batches in, trained networks out; killed at any moment, it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from heal.agents.replica import ALONE, Replica
from heal.anchors import make_anchors
from heal.base_model import BaseOutput
from heal.collab import CollabBatch, CollabModel
from heal.config import ConfigError
from heal.encoders.lift_splat_depth import DepthPrediction
from heal.inference import for_inference
from heal.loss import depth_loss, detection_loss, occupancy_loss
from heal.residual import ResidualBlock
from heal.tools.checkpoint import Progress, TrainingState
from heal.tools.train_config import TrainConfig, TrainingConfig, learning_rate
from heal.tools.train_data import TrainingBatch, TrainingSteps
from heal.winograd import replace_wide

AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class TrainingStoppedError(RuntimeError):
    """The loss is no number any more; the message says where, and what to try."""


@dataclass(frozen=True)
class StepLosses:
    """The parts of a step's loss; `total` is what is minimised, the others are for the log."""

    total: Tensor
    classification: float
    regression: float
    direction: float
    occupancy: float
    depth: float

    def parts(self) -> dict[str, float]:
        """All of them as numbers, by name."""
        return {
            "total": float(self.total.detach()),
            "classification": self.classification,
            "regression": self.regression,
            "direction": self.direction,
            "occupancy": self.occupancy,
            "depth": self.depth,
        }


@dataclass(frozen=True)
class StepReport:
    """What is known after a step."""

    step: int
    steps: int
    epoch: int
    learning_rate: float
    seconds: float
    losses: dict[str, float]


class Learner(nn.Module):
    """A collaborative model whose `forward` also says what the loss needs, which is what torch's data parallelism wraps."""

    def __init__(self, model: CollabModel) -> None:
        """Wrap a model; its weights are shared."""
        super().__init__()
        self.model = model

    def forward(self, batch: CollabBatch) -> tuple[BaseOutput, dict[str, DepthPrediction]]:
        """As `CollabModel.forward_with_depth`."""
        return self.model.forward_with_depth(batch)


def training_loss(learner: nn.Module, batch: TrainingBatch, settings: TrainConfig, anchors: Tensor) -> StepLosses:
    """Detection on the fused map, foreground on every agent's own, and the depth of camera agents (HEAL, section 3.2)."""
    output, depths = learner(batch.inputs)
    fused = detection_loss(output.head, batch.targets, settings.loss, anchors)
    alone = occupancy_loss(output.occupancy, batch.agent_targets, settings.loss)
    nothing = alone.new_zeros(())
    depth = sum((depth_loss(part.logits, part.bins, settings.loss) for part in depths.values() if part.bins is not None), nothing)
    total = fused.total + settings.training.single_weight * alone + depth
    return StepLosses(
        total,
        float(fused.classification.detach()),
        float(fused.regression.detach()),
        float(fused.direction.detach()),
        float(alone.detach()),
        float(depth.detach()),
    )


class BaseGuard:
    """Holds a copy of a frozen base, to see that nothing has touched it."""

    def __init__(self, base: nn.Module | None) -> None:
        """Copy the state of `base`; None if it is to learn."""
        self._base = base
        self._before = {} if base is None else {name: tensor.clone() for name, tensor in base.state_dict().items()}

    def check(self) -> None:
        """Raise TrainingStoppedError if any bit of the frozen base has changed."""
        now = {} if self._base is None else self._base.state_dict()
        changed = [name for name, tensor in self._before.items() if not torch.equal(tensor, now[name])]
        if changed:
            names = ", ".join(changed[:3])
            raise TrainingStoppedError(f"the frozen base has changed in {names}; types aligned to it would not fit it")


def set_learning(model: CollabModel, training: TrainingConfig) -> BaseGuard:
    """Set everything to learn, or with a frozen base only the agent types: it keeps its statistics too (HEAL, section 3.3)."""
    model.train()
    if not training.frozen_base:
        return BaseGuard(None)
    model.base.requires_grad_(False).eval()
    return BaseGuard(model.base)


def make_optimizer(model: CollabModel, training: TrainingConfig) -> torch.optim.Optimizer:
    """Adam with L2 for the paper's schedule, AdamW for onecycle."""
    kind = torch.optim.Adam if training.schedule == "multistep" else torch.optim.AdamW
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rate, epsilon, decay = training.learning_rate, training.adam_epsilon, training.weight_decay
    return kind(learning, lr=rate, eps=epsilon, weight_decay=decay, fused=True)


def train(
    model: CollabModel,
    steps: TrainingSteps,
    settings: TrainConfig,
    run: Path,
    report: Callable[[StepReport], None],
    replica: Replica = ALONE,
) -> Progress:
    """Train to the end, from the checkpoint in `run` if there is one.

    With several replicas each takes its share of the scenes of a batch, and their gradients are averaged; the first one writes.

    Raises:
        ConfigError: the precision does not fit the device.
        TrainingStoppedError: the loss became infinite or NaN.
        KeyboardInterrupt: passed on, after a checkpoint.
    """
    device = torch.device(replica.device)
    place(model, device)
    guard = set_learning(model, settings.training)
    optimizer, scaler = make_optimizer(model, settings.training), _scaler(settings.training, device)
    state = TrainingState(run / "checkpoint.pt", model, optimizer, scaler)
    progress = state.load()
    taker = StepTaker(make_learner(model, settings.training, replica), settings, device, optimizer, scaler)
    clock = _Clock(progress.seconds)
    try:
        for step, rate, losses in _train_steps(taker, steps, progress.step, replica):
            progress = Progress(step + 1, clock.seconds)
            if (step + 1) % steps.steps_per_epoch == 0:
                guard.check()
            if replica.is_first:
                report(StepReport(step, len(steps), step // steps.steps_per_epoch, rate, progress.seconds, losses.parts()))
            if replica.is_first and clock.due(settings.training.checkpoint_s):
                state.save(progress)
    finally:
        if replica.is_first:
            state.save(progress)
    return progress


def place(model: nn.Module, device: torch.device) -> None:
    """Move a model, its kernels with channels last: convolutions and their gradients run about half again as fast on a CPU.

    There a step's memory is the machine's, so that its maps are kept sparingly, and wide convolutions have a faster algorithm.
    """
    model.to(device)
    replace_wide(model)
    for part in model.modules():
        if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d)):
            part.to(memory_format=torch.channels_last)
        if isinstance(part, ResidualBlock):
            part.recomputes = device.type == "cpu"


def _train_steps(taker: StepTaker, steps: TrainingSteps, first: int, replica: Replica) -> Iterator[tuple[int, float, StepLosses]]:
    """Train step by step; yields each one's number, learning rate and losses."""
    training = steps.settings.training
    for step, batch in zip(range(first, len(steps)), _batches(steps, first), strict=True):
        # What is random in the networks depends on the step alone, so that a resumed training goes on as if never stopped.
        torch.manual_seed((training.seed * len(steps) + step) * replica.count + replica.rank)
        rate = learning_rate(training, step, steps.steps_per_epoch)
        yield step, rate, taker.take(batch.to(taker.device), rate)


def _scaler(training: TrainingConfig, device: torch.device) -> torch.amp.GradScaler:
    half = training.precision == "float16"
    if half and device.type != "cuda":
        raise ConfigError("training.precision=float16 needs a GPU; take bfloat16 or float32")
    return torch.amp.GradScaler(device.type, enabled=half)


def make_learner(model: CollabModel, training: TrainingConfig, replica: Replica) -> nn.Module:
    """What is called in a step; with several replicas it averages their gradients.

    A frozen base takes part as a copy with its norms folded, which has the same gradients in less time and memory; what is saved
    remains the base itself.
    """
    agents = {name: model.agent(name) for name in model.agents}
    learner = Learner(CollabModel(for_inference(model.base), agents) if training.frozen_base else model)
    # With several types a batch may lack one, and a camera trunk can hold weights that nothing reads: they have no gradient then.
    return DistributedDataParallel(learner, find_unused_parameters=True) if replica.count > 1 else learner


class StepTaker:
    """Takes training steps."""

    def __init__(
        self,
        learner: nn.Module,
        settings: TrainConfig,
        device: torch.device,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
    ) -> None:
        """On a device that the learner is on too."""
        self.learner, self.settings, self.device, self._optimizer, self._scaler = learner, settings, device, optimizer, scaler
        self.anchors = make_anchors(settings.base.grid, settings.base.anchors).to(device)

    @staticmethod
    def of(model: CollabModel, settings: TrainConfig, replica: Replica = ALONE) -> StepTaker:
        """For a model that has been set to learn."""
        device = torch.device(replica.device)
        place(model, device)
        optimizer, scaler = make_optimizer(model, settings.training), _scaler(settings.training, device)
        return StepTaker(make_learner(model, settings.training, replica), settings, device, optimizer, scaler)

    def losses(self, batch: TrainingBatch) -> StepLosses:
        """Of a batch; nothing is learned yet.

        Raises:
            TrainingStoppedError: the loss is infinite or NaN.
        """
        precision = self.settings.training.precision
        with torch.autocast(self.device.type, AUTOCAST.get(precision), enabled=precision in AUTOCAST):
            losses = training_loss(self.learner, batch, self.settings, self.anchors)
        if not torch.isfinite(losses.total):
            raise TrainingStoppedError(
                f"the loss is {float(losses.total.detach())} in scenes {', '.join(batch.scene_ids)}, its parts {losses.parts()}. "
                "The last checkpoint is good: try a lower training.learning_rate, or training.clip_gradient_norm=10."
            )
        return losses

    def take(self, batch: TrainingBatch, rate: float) -> StepLosses:
        """Learn from a batch at a learning rate; errors as in `losses`."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        losses = self.losses(batch)
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(losses.total).backward()  # type: ignore[no-untyped-call]
        if self.settings.training.clip_gradient_norm:
            self._scaler.unscale_(self._optimizer)
            torch.nn.utils.clip_grad_norm_(self.learner.parameters(), self.settings.training.clip_gradient_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return losses


def _batches(steps: TrainingSteps, first: int) -> Iterator[TrainingBatch]:
    loader = torch.utils.data.DataLoader(
        steps,
        batch_size=None,
        sampler=range(first, len(steps)),
        num_workers=steps.settings.training.workers,
        worker_init_fn=_one_thread,
        prefetch_factor=2 if steps.settings.training.workers else None,
    )
    return iter(loader)


def _one_thread(_: int) -> None:
    """Loading processes share the machine with the training: more threads than one each slow everything down."""
    torch.set_num_threads(1)


class _Clock:
    """Seconds of training over all sittings, and whether the next checkpoint is due."""

    def __init__(self, before: float) -> None:
        self._start = time.monotonic() - before
        self._saved = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    def due(self, every_s: float) -> bool:
        if time.monotonic() - self._saved < every_s:
            return False
        self._saved = time.monotonic()
        return True
