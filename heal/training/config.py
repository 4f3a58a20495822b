"""The configuration of a training: the networks, the loss, the augmentation, the schedule."""

from __future__ import annotations

import bisect
import difflib
import math
from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from heal.agent_model import AgentConfig
from heal.base_model import BaseConfig
from heal.config import config, later
from heal.detection.loss import LossConfig
from heal.errors import UserError
from heal.layers.compressor import CompressorConfig
from heal.pose_noise import PoseNoise
from heal.storage.parts import require_type_name
from heal.training.augment import AugmentConfig
from heal.training.partners import PartnersConfig


@config
class ScheduleConfig:
    """The section `training` of a training's configuration; the defaults of the schedule are the paper's for OPV2V.

    The files `base.yaml`, `dair.yaml`, `agent.yaml` and `agent_dair.yaml` have the paper's other settings (HEAL, section 5.1); only
    `random_agents` and `include_ego` differ from the paper, for a better system.

    Attributes:
        epochs: number of passes over all scenes.
        batch_scenes: scenes in a step, over all replicas.
        learning_rate: the initial rate (multistep), or the highest rate (onecycle).
        schedule: "multistep" divides the rate by ten after each milestone; "onecycle" warms up for a tenth of the steps, then
            follows a cosine down to zero.
        milestones: epochs after which the rate is divided by ten.
        weight_decay: L2 in the gradient for multistep's Adam, decoupled for onecycle's AdamW.
        adam_epsilon: epsilon of Adam and AdamW.
        clip_gradient_norm: largest gradient norm, 0 for no limit.
        single_weight: weight of the occupancy loss of the single agents, and of the loss of `base.single_heads`.
        max_agents: number of agents of a scene at most.
        random_agents: draw the number of agents of a scene uniformly from 1 to `max_agents`, so that the base learns single agents
            too.
        random_ego: shuffle the agents of a scene in every epoch; the first is the ego, and the next ones in range take part up to
            `max_agents`. All agents of the data set are shuffled. Otherwise the data set's ego stays the ego.
        ego_of: of `random_ego`: "vehicle" as in HEAL, where a roadside unit that comes first goes to the end, except in DAIR-V2X-C,
            whose two sides are exchanged; with "any" any agent may be the ego.
        ego_types: names of the agent types that the ego may have, each with the same probability; empty for all types.
        type_weights: agent type -> relative frequency among the agents other than the ego, 0 for a type that is not named; empty
            for equal frequencies. Types are drawn anew for every scene in every epoch.
        pose_noise: distribution of the error of the poses that agents measure in training, the ego too: "gaussian" or "laplace".
            The ground truth of a scene is that of the true poses, the labels of single agents lie in their noisy frames.
        pose_noise_m: spread of the error in x and in y; 0 for no error. For laplace the spread is the scale b.
        pose_noise_deg: spread of the error in yaw; 0 for no error.
        agents_of: the agents that take part: vehicles, roadside units, or the ego of each scene alone. Scenes without such an
            agent are left out, and other agents' data are not read.
        include_ego: keep the ego's own vehicle in the ground truth if other agents label it, as OPV2V's evaluation does.
        ground_truth: of DAIR-V2X-C: "joint" is its cooperative label file, "merged" the labels of both sides without the second
            agent's boxes that overlap one of the ego's, as in HEAL.
        labels: which labels an agent learns: "sensor" those that its type's sensor can see; whatever the sensor, "lidar" all, or
            "camera" those in view of its cameras. HEAL trains m3 on DAIR-V2X-C with "camera".
        z_margin_m: by how much the range of the labels is higher than the grid's, at the bottom and at the top; HEAL trains on
            DAIR-V2X-C with 1.
        comm_range_m: agents further than this from the ego take no part.
        seed: seed of the initial weights, the order of scenes and all augmentation.
        workers: number of processes that load data for each training process.
        replicas: processes that train together, each on its share of a batch's scenes: one for each GPU, or for each CPU core.
        precision: of the convolutions; float16 needs a GPU, bfloat16 a GPU or a CPU that has it (AMX or AVX-512).
        half_weights: store the trained kernels in float16, which halves their bytes.
        frozen_base: stage 2: train only the agent types. `max_agents` limits its scenes to single agents.
        fix_encoder: of stage 2: train only the aligner. Encoder and backbone are those of the type that `--init` names, and stay
            as they are.
        range_m: of stage 2: the half edges in x and y of the range in which the type learns, such as [96, 48]: labels, targets and
            the maps end there. None for the type's own range, or the base's.
        started_from: hash of the agent type whose weights stage 2 starts from; set by `--init`.
        merge_points: train for early fusion: of each scene the ego alone, with the clouds of all drawn agents joined in its frame,
            and all objects of the scene to find.
        teacher: an alliance that was trained with `merge_points`: the base learns to have the teacher's fused map and heads too,
            with `loss.distillation_weight` (DiscoNet). The teacher sees the same scenes with joined clouds. "" for no teacher.
        teacher_hash: hash of the teacher's base; set by the command.
        checkpoint_s: seconds between checkpoints.
        validate_every_epochs: epochs between validations, if the data has a validation split; the last epoch is always validated.
            0 for no validation.
        patience: stop after this many validations without a new best; 0 to train all epochs.
        recorded_scenes: from how many scenes, spread over those of the training and the validation, the statistics of honest maps
            are taken at the end, for runs with `defence=on`; 0 for no statistics.
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
    ego_of: Literal["vehicle", "any"] = "vehicle"
    ego_types: tuple[str, ...] = ()
    type_weights: Mapping[str, float] = field(default_factory=dict)
    pose_noise: Literal["gaussian", "laplace"] = "gaussian"
    pose_noise_m: float = 0.0
    pose_noise_deg: float = 0.0
    agents_of: Literal["any", "vehicle", "roadside", "ego"] = "any"
    include_ego: bool = False
    ground_truth: Literal["joint", "merged"] = "joint"
    labels: Literal["sensor", "lidar", "camera"] = "sensor"
    z_margin_m: float = 0.0
    comm_range_m: float = 70.0
    seed: int = 0
    workers: int = 2
    replicas: int = 1
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    half_weights: bool = False
    frozen_base: bool = False
    fix_encoder: bool = False
    range_m: tuple[float, float] | None = None
    started_from: str = later("")
    merge_points: bool = later(False)
    teacher: str = later("")
    teacher_hash: str = later("")
    checkpoint_s: float = 60.0
    validate_every_epochs: int = 1
    patience: int = 0
    recorded_scenes: int = later(30)

    @property
    def pose_error(self) -> PoseNoise:
        """The distribution of the error of the poses that agents measure."""
        return PoseNoise(kind=self.pose_noise, position_std_m=self.pose_noise_m, rotation_std_deg=self.pose_noise_deg)

    def __post_init__(self) -> None:
        """Check numbers, that the replicas can share a batch evenly, and that patience has something to wait for."""
        _require_draws(self)
        if self.validate_every_epochs < 0 or self.patience < 0:
            raise UserError(
                "training: expected validate_every_epochs and patience to be 0 or more, "
                f"got {self.validate_every_epochs} and {self.patience}"
            )
        if not self.z_margin_m >= 0:
            raise UserError(f"training: expected z_margin_m to be 0 or more metres, got {self.z_margin_m}")
        if self.patience and not self.validate_every_epochs:
            raise UserError(
                f"training: patience={self.patience} waits for validations, and validate_every_epochs=0 asks for none; change one"
            )
        if self.replicas < 1 or self.batch_scenes % self.replicas:
            raise UserError(
                f"training: expected batch_scenes to be a multiple of replicas, got {self.batch_scenes} and {self.replicas}"
            )


def _require_draws(training: ScheduleConfig) -> None:
    """Raise UserError for spreads of noise, weights of types or a range that cannot be."""
    noise, weights = (training.pose_noise_m, training.pose_noise_deg), tuple(training.type_weights.values())
    if not min(noise) >= 0:
        raise UserError(f"training: expected pose_noise_m and pose_noise_deg to be 0 or more, got {noise[0]} and {noise[1]}")
    if weights and not (min(weights) >= 0 and 0 < sum(weights) < math.inf):
        raise UserError(f"training: expected type_weights of 0 or more, one of them above 0, got {dict(training.type_weights)}")
    if training.range_m is not None and not min(training.range_m) > 0:
        raise UserError(f"training: expected range_m to be two half edges above 0 metres, got {training.range_m}")


@config
class TrainingConfig:
    """The whole configuration of a training: networks, loss, augmentation and schedule.

    Attributes:
        base: the base that all agent types share; in stage 2 the base of an alliance.
        agents: the agent types by name; usually one. With several, every agent of a scene is given a type at random, see
            `training.ego_types` and `training.type_weights`.
        loss: weights of the losses.
        augment: random variation of the scenes.
        partners: agents of little use among the scenes' agents.
        training: schedule, optimiser, choice of agents, processes.
        compressor_ratio: ratio of a compressor of all agents' maps, trained while everything else is frozen; None for none.
    """

    base: BaseConfig = BaseConfig()
    agents: Mapping[str, AgentConfig] = field(default_factory=lambda: {"m1": AgentConfig()})
    loss: LossConfig = LossConfig()
    augment: AugmentConfig = AugmentConfig()
    partners: PartnersConfig = PartnersConfig()
    training: ScheduleConfig = ScheduleConfig()
    compressor_ratio: int | None = None

    def __post_init__(self) -> None:
        """Check the agent types, those to be drawn, and what a compressor and a single-agent detector need."""
        if not self.agents:
            raise UserError("agents: expected at least one agent type")
        for name in self.agents:
            require_type_name(name)
        if self.compressor is not None and not self.training.frozen_base:
            raise UserError(f"compressor_ratio={self.compressor_ratio}: a compressor is trained with training.frozen_base=true")
        for setting in ("ego_types", "type_weights"):
            for name in getattr(self.training, setting):
                if name not in self.agents:
                    near = difflib.get_close_matches(name, self.agents, n=1)
                    hint = f"; did you mean {near[0]!r}?" if near else ""
                    raise UserError(
                        f"training.{setting}: no agent type {name!r} among those of this training, {', '.join(self.agents)}{hint}"
                    )
        if self.base.pyramid.single_agent:
            self._check_single_agent()
        if self.training.merge_points or self.training.teacher:
            self._check_joint_clouds()

    def _check_single_agent(self) -> None:
        """Check the settings of a single-agent detector: one type of its own, single agents."""
        if self.training.frozen_base or len(self.agents) > 1:
            raise UserError(
                "the base is a single-agent detector, which belongs to the one agent type that it is trained with; align other "
                "types to a base that fuses agents, or train a detector for each"
            )
        if self.training.max_agents != 1 and not self.training.merge_points:
            raise UserError(f"training.max_agents: a single-agent detector is trained with 1 agent, got {self.training.max_agents}")

    def _check_joint_clouds(self) -> None:
        """Check the settings of early fusion, or of a teacher of early fusion: all types read points, and a base is trained."""
        training, setting = self.training, "merge_points" if self.training.merge_points else "teacher"
        if training.merge_points and training.teacher:
            raise UserError("training.teacher teaches a base that fuses feature maps; set training.merge_points=false beside it")
        if training.frozen_base:
            raise UserError(f"training.{setting} is for a base and its types, `heal train base`; a frozen base learns nothing")
        if cameras := [name for name, agent in self.agents.items() if agent.sensor.cameras or not agent.sensor.lidar]:
            raise UserError(f"training.{setting}: expected types that read LiDAR alone, got {', '.join(cameras)}")
        if training.merge_points and self.partners.noise:
            raise UserError(f"training.merge_points: no map can be noise; expected partners.noise=0, got {self.partners.noise}")

    @property
    def compressor(self) -> CompressorConfig | None:
        """The settings of the compressor that is trained; None if none is."""
        ratio = self.compressor_ratio
        return None if ratio is None else CompressorConfig(channels=self.base.in_channels, ratio=ratio)


# Settings that change neither networks nor data, so that a training may be resumed with other ones. Of the teacher the folder may
# change, its hash may not.
CHANGEABLE = frozenset(
    f"training.{name}"
    for name in (
        "epochs",
        "learning_rate",
        "schedule",
        "milestones",
        "weight_decay",
        "adam_epsilon",
        "clip_gradient_norm",
        "workers",
        "precision",
        "half_weights",
        "teacher",
        "checkpoint_s",
        "validate_every_epochs",
        "patience",
        "recorded_scenes",
    )
)


def learning_rate(training: ScheduleConfig, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step.

    A milestone m takes effect from epoch m + 1, counted from 0, as in the paper's released schedules.

    Args:
        training: the schedule.
        step: number of the step, from 0 over the whole training.
        steps_per_epoch: number of steps of an epoch.
    """
    if training.schedule == "multistep":
        finished = step // steps_per_epoch - 1
        return training.learning_rate * 0.1 ** bisect.bisect_right(training.milestones, finished)
    share = step / max(training.epochs * steps_per_epoch, 1)
    warm_up = 0.1
    if share < warm_up:
        return training.learning_rate * (0.1 + 0.9 * share / warm_up)
    return training.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (share - warm_up) / (1.0 - warm_up)))
