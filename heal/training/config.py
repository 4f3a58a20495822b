"""What a training is told: the networks, the loss, the augmentation, the schedule."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from heal.agent_model import AgentConfig
from heal.base_model import BaseConfig
from heal.config import config
from heal.detection.loss import LossConfig
from heal.training.augment import AugmentConfig


@config
class TrainingConfig:
    """The course of a training; the defaults are the paper's for OPV2V (HEAL, section 5.1).

    Attributes:
        epochs: times every scene is seen.
        batch_scenes: scenes in a step.
        learning_rate: the initial rate (multistep), or the highest one (onecycle).
        schedule: "multistep" divides the rate by ten after each milestone; "onecycle" warms up for a tenth of the steps, then
            follows a cosine down to nothing.
        milestones: epochs after which the rate is divided by ten.
        weight_decay: L2 in the gradient for multistep's Adam, decoupled for onecycle's AdamW.
        adam_epsilon: of Adam.
        clip_gradient_norm: largest gradient norm, 0 for no limit.
        single_weight: weight of the occupancy loss on every agent alone.
        max_agents: agents of a scene that are used at most.
        random_agents: draw the number of agents of a scene at random from one upwards, so that the base knows lone agents too.
        random_ego: draw the ego among all agents.
        include_ego: the ego's own vehicle is to be found where others label it, as in OPV2V's evaluation.
        comm_range_m: agents further than this from the ego take no part.
        seed: of the initial weights, the order of scenes and all augmentation.
        workers: processes that load data beside each one that trains.
        replicas: processes that train together, each on its share of a batch's scenes: one for each GPU, or for each CPU core.
        precision: of the convolutions; float16 needs a GPU, bfloat16 a GPU or a CPU that has it (AMX or AVX-512).
        half_weights: store the result's kernels in float16, in half the bytes.
        frozen_base: stage 2: only the agent types learn, each from scenes with one agent alone.
        checkpoint_s: seconds between checkpoints.
    """

    epochs: int = 30
    batch_scenes: int = 4
    learning_rate: float = 2e-3
    schedule: Literal["multistep", "onecycle"] = "multistep"
    milestones: tuple[int, ...] = (15, 25)
    weight_decay: float = 1e-4
    adam_epsilon: float = 1e-10
    clip_gradient_norm: float = 0.0
    single_weight: float = 1.0
    max_agents: int = 5
    random_agents: bool = True
    random_ego: bool = False
    include_ego: bool = False
    comm_range_m: float = 70.0
    seed: int = 0
    workers: int = 2
    replicas: int = 1
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    half_weights: bool = False
    frozen_base: bool = False
    checkpoint_s: float = 60.0

    def __post_init__(self) -> None:
        """Check that a batch can be shared."""
        if self.replicas < 1 or self.batch_scenes % self.replicas:
            raise ValueError(
                f"training: expected batch_scenes to be a multiple of replicas, got {self.batch_scenes} and {self.replicas}"
            )


@config
class TrainConfig:
    """Everything of a training: the base, the agent types that learn, and how.

    Attributes:
        base: which all types share; in stage 2 that of an alliance.
        agents: the types by name; in stage 1 usually one, with several every agent of a scene is given one at random.
        loss: what is minimised.
        augment: how scenes are varied.
        training: the course of it.
    """

    base: BaseConfig = BaseConfig()
    agents: Mapping[str, AgentConfig] = field(default_factory=lambda: {"m1": AgentConfig()})
    loss: LossConfig = LossConfig()
    augment: AugmentConfig = AugmentConfig()
    training: TrainingConfig = TrainingConfig()

    def __post_init__(self) -> None:
        """Raise ValueError without any agent type, or for augmentations that images would not show."""
        if not self.agents:
            raise ValueError("agents: expected at least one agent type")


def learning_rate(training: TrainingConfig, step: int, steps_per_epoch: int) -> float:
    """The rate of a step, counted from 0 over the whole training.

    A milestone m takes effect from epoch m + 1, counted from 0, as in the paper's released schedules.
    """
    if training.schedule == "multistep":
        finished = step // steps_per_epoch - 1
        return training.learning_rate * 0.1 ** bisect.bisect_right(training.milestones, finished)
    share = step / max(training.epochs * steps_per_epoch, 1)
    warm_up = 0.1
    if share < warm_up:
        return training.learning_rate * (0.1 + 0.9 * share / warm_up)
    return training.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (share - warm_up) / (1.0 - warm_up)))
