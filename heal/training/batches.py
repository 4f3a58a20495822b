"""Training batches: which scenes, which of their agents, varied how; and what the network should say about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from heal.collab_model import CollabBatch, CollabModel
from heal.detection.anchors import make_anchors
from heal.detection.detections import GroundTruth
from heal.detection.ground_truth import agent_ground_truth, ground_truth
from heal.detection.targets import Targets, assign_targets
from heal.seeding import keyed_generator
from heal.training.augment import augment
from heal.training.config import TrainConfig, TrainingConfig
from heal.training.replica import ALONE, Replica
from heal.types import ObjectLabels, Scene, SceneOutline, SceneSource, SensorChoice


@dataclass(frozen=True)
class TrainingBatch:
    """One step's input and what is right for it.

    Attributes:
        scene_ids: the scenes in it.
        inputs: for the network.
        targets: (B, ...) of the fused output, in each ego's frame.
        agent_targets: (M, ...) of every agent alone, in its own frame.
    """

    scene_ids: tuple[str, ...]
    inputs: CollabBatch
    targets: Targets
    agent_targets: Targets

    def to(self, device: torch.device) -> TrainingBatch:
        """The batch on another device."""
        return replace(
            self, inputs=self.inputs.to(device), targets=self.targets.to(device), agent_targets=self.agent_targets.to(device)
        )


class TrainingSteps(torch.utils.data.Dataset[TrainingBatch]):
    """All steps of a training, numbered over all epochs: step n is the same batch whenever and wherever it is asked for.

    That makes a resumed training equal to an uninterrupted one, and the data independent of the number of loading processes.
    Of several processes that train together each has its own scenes of every batch.
    """

    def __init__(self, source: SceneSource, model: CollabModel, settings: TrainConfig, replica: Replica = ALONE) -> None:
        """Draw from `source` for `model`, whose agents prepare their own inputs."""
        self.source, self.model, self.settings, self._replica = source, model, settings, replica
        self.steps_per_epoch = steps_per_epoch(len(source), settings.training)
        self._sensors = {name: agent.sensor_in_training for name, agent in settings.agents.items()}
        self._anchors = make_anchors(settings.base.grid, settings.base.anchors)

    def __len__(self) -> int:
        """Number of steps of the whole training."""
        return self.settings.training.epochs * self.steps_per_epoch

    def __getitem__(self, step: int) -> TrainingBatch:
        """The batch of a step, or this process's share of it."""
        training = self.settings.training
        epoch, position = divmod(step, self.steps_per_epoch)
        order = keyed_generator(training.seed, "scene order", epoch).permutation(len(self.source))
        batch = range(position * training.batch_scenes, (position + 1) * training.batch_scenes)
        own = batch[self._replica.rank :: self._replica.count]
        agents = draw_agents(training, keyed_generator(training.seed, "number of agents", epoch, position))
        drawn = [self._draw(int(order[i]), agents, keyed_generator(training.seed, "scene", epoch, i)) for i in own]
        return self._batch(drawn, keyed_generator(training.seed, "inputs", epoch, own[0]))

    def _draw(self, index: int, agents: int, rng: np.random.Generator) -> DrawnScene:
        drawn = draw_scene(self.source, index, agents, self._sensors, self.settings.training, rng)
        return replace(drawn, scene=augment(drawn.scene, self.settings.augment, rng))

    def _batch(self, drawn: list[DrawnScene], rng: np.random.Generator) -> TrainingBatch:
        """Inputs and targets of some scenes."""
        scenes, types = [part.scene for part in drawn], [part.agent_types for part in drawn]
        settings, range_m = self.settings, self.settings.base.grid.range_m
        fused = [ground_truth(scene, range_m, include_ego=settings.training.include_ego) for scene in scenes]
        alone = [agent_ground_truth(frame, range_m) for scene in scenes for frame in scene.ego_first]
        ids = tuple(scene.outline.scene_id for scene in scenes)
        return TrainingBatch(ids, self.model.prepare(scenes, types, rng), self._targets(fused), self._targets(alone))

    def _targets(self, truths: list[GroundTruth]) -> Targets:
        return Targets.stack([assign_targets(self._anchors, truth.boxes, self.settings.base.targets) for truth in truths])


def steps_per_epoch(scenes: int, training: TrainingConfig) -> int:
    """Steps of an epoch; the scenes that do not fill its last batch are left out of it.

    Raises:
        ValueError: there is no full batch.
    """
    if scenes < training.batch_scenes:
        raise ValueError(f"{scenes} scenes do not fill one batch of {training.batch_scenes}; set training.batch_scenes lower")
    return scenes // training.batch_scenes


def draw_agents(training: TrainingConfig, rng: np.random.Generator) -> int:
    """How many agents the scenes of a batch have at most: one number for all, so that no process waits long for another."""
    return 1 + int(rng.integers(training.max_agents)) if training.random_agents else training.max_agents


@dataclass(frozen=True)
class DrawnScene:
    """A scene for training: some agents of it, and the type that each of them is given."""

    scene: Scene
    agent_types: Mapping[str, str]


def draw_scene(
    source: SceneSource,
    index: int,
    agents: int,
    sensors: Mapping[str, SensorChoice],
    training: TrainingConfig,
    rng: np.random.Generator,
) -> DrawnScene:
    """A scene with a random ego if asked for, and up to `agents` of those within its range; only their sensors are read.

    What is to be found is what these agents have labelled. Every agent is given one of the types in `sensors`, which says what the
    type senses.
    """
    outline = source.outline(index)
    ids = [outline.agent_ids[i] for i in rng.permutation(len(outline.agent_ids))]
    ego_id = ids[0] if training.random_ego else outline.ego_id
    names = list(sensors)
    types = {agent_id: names[int(rng.integers(len(names)))] for agent_id in ids}
    frames = [source.agent_frame(index, ego_id, sensors[types[ego_id]])]
    for agent_id in ids:
        if len(frames) >= agents:
            break
        if agent_id != ego_id:
            frame = source.agent_frame(index, agent_id, sensors[types[agent_id]])
            if np.linalg.norm((frame.world_SE3_agent - frames[0].world_SE3_agent)[:2, 3]) <= training.comm_range_m:
                frames.append(frame)
    chosen = tuple(frame.agent_id for frame in frames)
    objects = source.scene_objects(index) if set(chosen) == set(ids) else None
    if objects is None:
        objects = ObjectLabels.union([frame.objects for frame in frames])
    drawn = SceneOutline(outline.scene_id, outline.timestamp_ns, ego_id, chosen, frames[0].world_SE3_agent)
    return DrawnScene(Scene(drawn, tuple(frames), objects), {agent_id: types[agent_id] for agent_id in chosen})
