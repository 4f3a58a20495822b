"""Training batches: drawn scenes are varied, and become the networks' inputs and targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from heal.base_model import make_heads
from heal.collab_model import CollabBatch, CollabModel
from heal.detection.detections import GroundTruth
from heal.detection.ground_truth import agent_ground_truth, ground_truth
from heal.detection.targets import Targets
from heal.errors import UserError
from heal.grid import Range
from heal.seeding import keyed_generator
from heal.training.augment import augment
from heal.training.config import ScheduleConfig, TrainingConfig
from heal.training.drawing import DrawnScene, draw_max_agents, draw_scene
from heal.training.joined import joined
from heal.training.own_range import cells_within, limit_labels, own_range, with_z_margin
from heal.training.partners import spoil_partners
from heal.training.replica import ALONE, Replica
from heal.types import AgentFrame, Scene, SceneSource, SensorChoice


@dataclass(frozen=True)
class TrainingBatch:
    """The inputs and targets of one step: B scenes with M agents.

    Attributes:
        scene_ids: ids of the scenes.
        inputs: input of the collaborative model.
        targets: (B, ...) targets of the fused output, in the frame of each ego.
        agent_targets: (M, ...) targets of every single agent, in its own frame.
        joint: input of the teacher, the joint clouds of the scenes; None without a teacher.
    """

    scene_ids: tuple[str, ...]
    inputs: CollabBatch
    targets: Targets
    agent_targets: Targets
    joint: CollabBatch | None = None

    def to(self, device: torch.device) -> TrainingBatch:
        """Copy the batch to another device."""
        return TrainingBatch(
            self.scene_ids,
            self.inputs.to(device),
            self.targets.to(device),
            self.agent_targets.to(device),
            None if self.joint is None else self.joint.to(device),
        )


class TrainingSteps(torch.utils.data.Dataset[TrainingBatch]):
    """The batches of all steps of a training, numbered over all epochs: step n always gives the same batch, in every process.

    So a resumed training equals an uninterrupted one, and the data does not depend on the number of loading processes. Of several
    replicas, each has its own share of the scenes of every batch.
    """

    def __init__(
        self,
        source: SceneSource,
        model: CollabModel,
        settings: TrainingConfig,
        replica: Replica = ALONE,
        teacher: CollabModel | None = None,
    ) -> None:
        """Draw scenes from `source`; the agent types of `model`, and that of a teacher, make their own inputs."""
        self.source, self.settings, self.teacher, self._replica = source, settings, teacher, replica
        self.steps_per_epoch = steps_per_epoch(len(source), settings.training)
        self._sensors, self._maker = sensors_of(settings), BatchMaker(model, settings, teacher)

    def __len__(self) -> int:
        """Return the number of steps of the whole training."""
        return self.settings.training.epochs * self.steps_per_epoch

    def __getitem__(self, step: int) -> TrainingBatch:
        """Make the batch of a step, or this replica's share of the batch."""
        training = self.settings.training
        epoch, position = divmod(step, self.steps_per_epoch)
        order = keyed_generator(training.seed, "scene order", epoch).permutation(len(self.source))
        batch = range(position * training.batch_scenes, (position + 1) * training.batch_scenes)
        own = batch[self._replica.rank :: self._replica.count]
        max_agents = draw_max_agents(training, keyed_generator(training.seed, "number of agents", epoch, position))
        drawn = [self._draw(int(order[i]), max_agents, epoch, i) for i in own]
        return self._maker.make(drawn, self._maker.truths(drawn), keyed_generator(training.seed, "inputs", epoch, own[0]))

    def _draw(self, index: int, max_agents: int, epoch: int, place: int) -> DrawnScene:
        """Draw scene `index`, which has a place in the order of an epoch, and vary it."""
        training = self.settings.training
        rng = keyed_generator(training.seed, "scene", epoch, place)
        drawn = draw_scene(self.source, index, max_agents, self._sensors, training, rng)
        varied = augment(drawn.scene, self.settings.augment, rng)
        spoiled = spoil_partners(varied, self.settings.partners, keyed_generator(training.seed, "partners", epoch, place))
        whole = replace(drawn, scene=spoiled.scene, noisy=spoiled.noisy, misplaced=spoiled.misplaced)
        return joined(whole) if training.merge_points else whole


class BatchMaker:
    """Makes the networks' inputs and targets of drawn scenes; agents have to detect what lies in the own range of their type."""

    def __init__(self, model: CollabModel, settings: TrainingConfig, teacher: CollabModel | None = None) -> None:
        """Take the networks, whose agent types make their own inputs, and the settings of heads, targets and range."""
        self.model, self._settings, self._teacher = model, settings, teacher
        self._detection = make_heads(settings.base)
        grid, margin_m = settings.base.grid, settings.training.z_margin_m
        self._labels_range = with_z_margin(grid.range_m, margin_m)
        own = {name: own_range(agent, grid) for name, agent in settings.agents.items()}
        self._ranges = {name: None if part is None else with_z_margin(part, margin_m) for name, part in own.items()}

    def make(self, drawn: Sequence[DrawnScene], truths: Sequence[GroundTruth], rng: np.random.Generator | None) -> TrainingBatch:
        """Make a batch of scenes with their `truths`; `rng` shuffles points in training, None in validation."""
        scenes, types = [part.scene for part in drawn], [part.agent_types for part in drawn]
        scene_ids, inputs = tuple(scene.outline.scene_id for scene in scenes), self.model.prepare(scenes, types, rng)
        fused = [self._targets(truth, self._range_of(part)) for part, truth in zip(drawn, truths, strict=True)]
        noisy = tuple(frame.agent_id in part.noisy for part in drawn for frame in part.scene.ego_first)
        alone = [self._targets_alone(frame, part) for part in drawn for frame in part.scene.ego_first]
        targets = Targets.stack(fused), Targets.stack(alone)
        return TrainingBatch(scene_ids, replace(inputs, noisy=noisy), *targets, self._joint(drawn, rng))

    def _joint(self, drawn: Sequence[DrawnScene], rng: np.random.Generator | None) -> CollabBatch | None:
        """Return the input of the teacher: the joint clouds of the scenes, in the frames of their egos."""
        if self._teacher is None:
            return None
        [name] = self._teacher.agents
        scenes = [joined(part).scene for part in drawn]
        return self._teacher.prepare(scenes, [{scene.outline.ego_id: name} for scene in scenes], rng)

    def truths(self, drawn: Sequence[DrawnScene]) -> list[GroundTruth]:
        """Return the objects to detect in each scene, in the ego's frame."""
        range_m, include_ego = self._labels_range, self._settings.training.include_ego
        return [ground_truth(self._limited(part), range_m, include_ego=include_ego) for part in drawn]

    def _limited(self, drawn: DrawnScene) -> Scene:
        """Return a scene with the objects that lie in the own range of any of its agents."""
        ranges = {agent_id: self._ranges[name] for agent_id, name in drawn.agent_types.items()}
        return limit_labels(drawn.scene, ranges, drawn.of_union)

    def _range_of(self, drawn: DrawnScene) -> Range | None:
        """Return the range in which the fused map of a scene is taught: of a single agent its own, of several agents all."""
        types = list(drawn.agent_types.values())
        return self._ranges[types[0]] if len(types) == 1 else None

    def _targets_alone(self, frame: AgentFrame, drawn: DrawnScene) -> Targets:
        """Return what an agent has to find alone, in the frame of its measured pose: nothing is asked of a map of noise."""
        if frame.agent_id in drawn.misplaced:
            frame = replace(frame, world_SE3_agent_measured=frame.world_SE3_agent)
        own = self._ranges[drawn.agent_types[frame.agent_id]]
        targets = self._targets(agent_ground_truth(frame, own or self._labels_range), own)
        return targets.within(torch.zeros_like(targets.foreground)) if frame.agent_id in drawn.noisy else targets

    def _targets(self, truth: GroundTruth, range_m: Range | None) -> Targets:
        targets = self._detection.targets(truth.boxes, truth.classes)
        return targets if range_m is None else targets.within(cells_within(self._settings.base.grid, range_m))


def sensors_of(settings: TrainingConfig) -> dict[str, SensorChoice]:
    """Return the sensor data and labels that each agent type needs in training."""
    choices, labels = {name: agent.sensor_in_training for name, agent in settings.agents.items()}, settings.training.labels
    return choices if labels == "sensor" else {name: replace(choice, labels=labels) for name, choice in choices.items()}


def steps_per_epoch(scenes: int, training: ScheduleConfig) -> int:
    """Return the number of steps of an epoch; scenes that do not fill a last batch are left out.

    Raises:
        ValueError: the scenes do not fill one batch.
    """
    if scenes < training.batch_scenes:
        raise UserError(f"{scenes} scenes do not fill one batch of {training.batch_scenes}; set training.batch_scenes lower")
    return scenes // training.batch_scenes
