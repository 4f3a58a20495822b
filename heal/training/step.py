"""One training step: the losses of a batch, their gradients, and what the optimiser makes of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from heal.base_model import BaseOutput
from heal.collab_model import CollabBatch, CollabModel
from heal.config import ConfigError
from heal.detection.anchors import make_anchors
from heal.detection.loss import depth_loss, detection_loss, occupancy_loss
from heal.encoders.lift_splat_depth import DepthPrediction
from heal.layers.inference import for_inference
from heal.layers.residual import ResidualBlock
from heal.layers.winograd import replace_wide
from heal.training.batches import TrainingBatch
from heal.training.config import TrainConfig, TrainingConfig
from heal.training.replica import ALONE, Replica

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


def make_scaler(training: TrainingConfig, device: torch.device) -> torch.amp.GradScaler:
    """Make the gradient scaler that float16 needs, switched off in other precisions; ConfigError for float16 without a GPU."""
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
        optimizer, scaler = make_optimizer(model, settings.training), make_scaler(settings.training, device)
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
