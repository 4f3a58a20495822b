"""One training step: compute the losses of a batch and their gradients, and update the weights.

`place` and `set_learning` set a model up, `StepTaker` wraps it, and `StepTaker.take` is called for every batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from heal.agent_model import AgentModel
from heal.base_model import BaseOutput, make_heads
from heal.collab_model import CollabBatch, CollabModel
from heal.config import ConfigError
from heal.detection.loss import depth_loss, occupancy_loss
from heal.encoders.lift_splat_depth import DepthPrediction
from heal.errors import UserError
from heal.heads.interface import DetectionHeads
from heal.layers.compressor import Compressor
from heal.layers.inference import for_inference
from heal.layers.residual import ResidualBlock
from heal.layers.winograd import replace_wide
from heal.training.batches import TrainingBatch
from heal.training.config import ScheduleConfig, TrainingConfig
from heal.training.distillation import distillation_loss
from heal.training.norms import RunningStatistics
from heal.training.replica import ALONE, Replica, average_statistics

# Torch's types of the precisions that need autocast.
_AUTOCAST_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class TrainingStoppedError(UserError, RuntimeError):
    """A training that cannot go on, such as one whose loss is NaN; the message names the cause."""


@dataclass(frozen=True)
class StepLosses:
    """The weighted losses of a step.

    Attributes:
        total: the scalar to minimise, with its gradient; the others are its parts, for the log.
        classification: scores of the boxes.
        regression: boxes.
        direction: headings.
        occupancy: foreground of every single agent, before `single_weight`.
        single: detection by `BaseConfig.single_heads` on every agent's own map, before `single_weight`.
        depth: depth of camera agents.
        fusion: the fusion's own loss, see `heal.fusion.interface.Fusion.extra_loss`.
        distillation: divergence from the teacher's maps.
    """

    total: Tensor
    classification: float
    regression: float
    direction: float
    occupancy: float
    single: float
    depth: float
    fusion: float
    distillation: float

    def parts(self) -> dict[str, float]:
        """Return the total and its parts as numbers, by name."""
        return {
            "total": float(self.total.detach()),
            "classification": self.classification,
            "regression": self.regression,
            "direction": self.direction,
            "occupancy": self.occupancy,
            "single": self.single,
            "depth": self.depth,
            "fusion": self.fusion,
            "distillation": self.distillation,
        }


class StepTaker:
    """Takes training steps: losses, gradients, update of the weights.

    Attributes:
        model: the networks, on `device`.
        settings: losses, precision, clipping and optimiser.
        replica: this process.
        device: the device of batches and networks.
        guard: checks that frozen networks stay unchanged.
        optimizer: updates the weights that learn.
        scaler: scales the gradients in float16.
        learner: the networks as they compute a step; a frozen base is a folded copy.
        teacher: the network that the fused maps are to be like, on `device`; None for none.
        detection: the kind of the base's heads.
        statistics: the running statistics of the batch norms.
    """

    def __init__(
        self, model: CollabModel, settings: TrainingConfig, replica: Replica = ALONE, teacher: CollabModel | None = None
    ) -> None:
        """Move a model to the replica's device, set it to train, and make its optimiser.

        Args:
            model: the networks.
            settings: losses, precision, clipping and optimiser.
            replica: this process.
            teacher: see the attribute.
        """
        self.model, self.settings, self.replica, self.device = model, settings, replica, torch.device(replica.device)
        place(model, self.device)
        self.guard = set_learning(model, settings.training)
        self.optimizer, self.scaler = make_optimizer(model, settings.training), make_scaler(settings.training, self.device)
        self.learner = make_learner(model, settings.training)
        self.teacher = None if teacher is None else teacher.to(self.device)
        # Some weights may have no gradient: a batch may lack an agent type, and a camera trunk can hold weights that nothing reads.
        self._parallel = DistributedDataParallel(self.learner, find_unused_parameters=True) if replica.count > 1 else self.learner
        self.detection = make_heads(settings.base)
        self.statistics = RunningStatistics(model)

    def take(self, batch: TrainingBatch, rate: float) -> StepLosses:
        """Update the weights by one batch at a learning rate.

        Raises:
            TrainingStoppedError: the loss or the norm of its gradients is infinite or NaN; the weights are as before the step.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        losses = self.losses(batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(losses.total).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        limit = self.settings.training.clip_gradient_norm or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.learner.parameters(), limit)
        self._check_norm(norm, batch)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        average_statistics(self.learner, self.replica)
        return losses

    def _check_norm(self, norm: Tensor, batch: TrainingBatch) -> None:
        """Raise TrainingStoppedError if the norm of the gradients is infinite or NaN.

        In float16 the scaler leaves out such a step and lowers its scale; it is an error only if a scale below 1 does not help.
        """
        may_be_infinite = self.scaler.is_enabled() and self.scaler.get_scale() >= 1.0
        if not may_be_infinite and not torch.isfinite(norm):
            raise _stopped(f"the norm of the gradients is {float(norm)}", batch)

    def losses(self, batch: TrainingBatch) -> StepLosses:
        """Compute the losses of a batch in the precision of the settings; the weights stay the same.

        Raises:
            TrainingStoppedError: the loss is infinite or NaN.
        """
        with self.autocast():
            losses = training_loss(self._parallel, batch, self.settings, self.detection, self.teacher)
        if not torch.isfinite(losses.total):
            raise _stopped(f"the loss is {float(losses.total.detach())}, its parts {losses.parts()}", batch)
        return losses

    def autocast(self) -> torch.autocast:
        """Return the context in which the networks compute in the precision of the settings."""
        precision = self.settings.training.precision
        return torch.autocast(self.device.type, _AUTOCAST_TYPES.get(precision), enabled=precision in _AUTOCAST_TYPES)


def _stopped(cause: str, batch: TrainingBatch) -> TrainingStoppedError:
    """Make the error of a step whose numbers are infinite or NaN, with the scenes of its batch and what to do."""
    return TrainingStoppedError(
        f"{cause}, in scenes {', '.join(batch.scene_ids)}. The last checkpoint is from before this step: repeat the command with "
        "a lower training.learning_rate, or with training.clip_gradient_norm=10, to go on from there."
    )


def training_loss(
    learner: nn.Module,
    batch: TrainingBatch,
    settings: TrainingConfig,
    detection: DetectionHeads,
    teacher: CollabModel | None = None,
) -> StepLosses:
    """Compute the losses of a batch (HEAL, section 3.2).

    The loss sums detection on the fused map, foreground on the map of every single agent, detection there if the base has single
    heads, depth of camera agents, the fusion's own loss, if it has one, and the divergence from the maps of a teacher.

    Args:
        learner: a `Learner`, perhaps wrapped for data parallelism.
        batch: inputs and targets.
        settings: weights of the losses.
        detection: the kind of the base's heads.
        teacher: sees the joint clouds of the batch; None for none.
    """
    output, depths = learner(batch.inputs)
    fused = detection.loss(output.head, batch.targets, settings.loss)
    zero = fused.total.new_zeros(())
    scored = settings.base.fused_by.foreground
    occupancy = occupancy_loss(output.occupancy, batch.agent_targets, settings.loss) if scored else zero
    single = zero if output.single is None else detection.loss(output.single, batch.agent_targets, settings.loss).total
    depth = sum((depth_loss(part.logits, part.bins, settings.loss) for part in depths.values() if part.bins is not None), zero)
    own = zero if output.extra_loss is None else output.extra_loss
    taught = settings.loss.distillation_weight * _from_teacher(output, batch, teacher, zero)
    total = fused.total + settings.training.single_weight * (occupancy + single) + depth + own + taught
    parts = (fused.classification, fused.regression, fused.direction, occupancy, single, depth, own, taught)
    return StepLosses(total, *(float(part.detach()) for part in parts))


def _from_teacher(output: BaseOutput, batch: TrainingBatch, teacher: CollabModel | None, zero: Tensor) -> Tensor:
    """Return the divergence of an output from that of the teacher for the joint clouds; zero without a teacher."""
    if teacher is None or batch.joint is None:
        return zero
    with torch.no_grad():
        wanted: BaseOutput = teacher(batch.joint)
    return distillation_loss(output, wanted)


class Learner(nn.Module):
    """A collaborative model whose `forward` also returns depths for the loss; torch's data parallelism wraps this module."""

    def __init__(self, model: CollabModel) -> None:
        """Wrap a model; its weights are shared, not copied."""
        super().__init__()
        self.model = model

    def forward(self, batch: CollabBatch) -> tuple[BaseOutput, dict[str, DepthPrediction]]:
        """Run `CollabModel.forward_with_depth`, through the hooks of torch's data parallelism."""
        return self.model.forward_with_depth(batch)


def set_learning(model: CollabModel, training: ScheduleConfig) -> FrozenGuard:
    """Set a model to train; frozen parts stay in evaluation, so that their statistics do not change either (HEAL, section 3.3).

    Where a compressor is trained, the agent types are frozen like the base.

    Returns:
        The guard that checks that the frozen parts stay unchanged.
    """
    model.train()
    frozen: dict[str, nn.Module] = {"base": model.base} if training.frozen_base else {}
    if isinstance(model.compressor, Compressor):
        frozen |= _agents(model)
    if training.fix_encoder:
        for name in model.agents:
            frozen |= {f"{name}.encoder": model.agent(name).encoder, f"{name}.backbone": model.agent(name).backbone}
    for part in frozen.values():
        part.requires_grad_(False).eval()
    return FrozenGuard(frozen)


class FrozenGuard:
    """Keeps a copy of the state of frozen networks, to check that they have not changed."""

    def __init__(self, frozen: Mapping[str, nn.Module]) -> None:
        """Copy the state of networks by name; none if everything is trained and there is nothing to check."""
        self._frozen = frozen
        self._before = {name: tensor.clone() for name, tensor in self._state().items()}

    def _state(self) -> dict[str, Tensor]:
        return {f"{name}.{key}": tensor for name, part in self._frozen.items() for key, tensor in part.state_dict().items()}

    def check(self) -> None:
        """Raise TrainingStoppedError if any bit of the frozen networks has changed."""
        now = self._state()
        changed = [name for name, tensor in self._before.items() if not torch.equal(tensor, now[name])]
        if changed:
            names = ", ".join(changed[:3])
            raise TrainingStoppedError(f"what is frozen has changed in {names}; types aligned to the base would not fit it")


def place(model: nn.Module, device: torch.device) -> None:
    """Move a model to a device, in the layout and with the algorithms that train fastest there.

    Kernels are channels_last: convolutions and their gradients run about half again as fast on a CPU. On a CPU, residual blocks
    compute the outputs of ReLUs again in the backward pass (in float32), to save memory, and wide convolutions have a faster
    algorithm.
    """
    model.to(device)
    replace_wide(model)
    for part in model.modules():
        if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d)):
            part.to(memory_format=torch.channels_last)
        if isinstance(part, ResidualBlock):
            part.recomputes = device.type == "cpu"


def make_learner(model: CollabModel, training: ScheduleConfig) -> Learner:
    """Wrap a model for training steps.

    Frozen networks take part as copies with their norms folded, which have the same gradients in less time and memory; the networks
    themselves are saved.
    """
    if not training.frozen_base:
        return Learner(model)
    base, agents, compressor = for_inference(model.base), _agents(model), model.compressor
    if isinstance(compressor, Compressor):
        return Learner(CollabModel(base, {name: for_inference(agent) for name, agent in agents.items()}, compressor))
    return Learner(CollabModel(base, agents))


def _agents(model: CollabModel) -> dict[str, AgentModel]:
    return {name: model.agent(name) for name in model.agents}


def make_optimizer(model: CollabModel, training: ScheduleConfig) -> torch.optim.Optimizer:
    """Make the optimiser of the weights that learn: Adam with L2 for multistep, the paper's schedule; AdamW for onecycle."""
    kind = torch.optim.Adam if training.schedule == "multistep" else torch.optim.AdamW
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rate, epsilon, decay = training.learning_rate, training.adam_epsilon, training.weight_decay
    return kind(learning, lr=rate, eps=epsilon, weight_decay=decay, fused=True)


def make_scaler(training: ScheduleConfig, device: torch.device) -> torch.amp.GradScaler:
    """Make the gradient scaler that float16 needs, switched off in other precisions; ConfigError for float16 without a GPU."""
    half = training.precision == "float16"
    if half and device.type != "cuda":
        raise ConfigError("training.precision=float16 needs a GPU; take bfloat16 or float32")
    return torch.amp.GradScaler(device.type, enabled=half)
