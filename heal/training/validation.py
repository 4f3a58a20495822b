"""Validation of networks that are being trained: detection loss and average precision on scenes that they do not learn from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from heal.collab_model import CollabModel
from heal.detection.detections import Detections, GroundTruth
from heal.detection.head import HeadOutput
from heal.detection.metrics import ApAccumulator
from heal.seeding import keyed_generator
from heal.training.batches import BatchMaker, TrainingBatch, sensors_of
from heal.training.config import TrainingConfig
from heal.training.drawing import draw_scene
from heal.training.joined import joined
from heal.training.own_range import validated_range
from heal.training.replica import ALONE, Replica, gather
from heal.training.step import StepTaker
from heal.types import SceneSource


@dataclass(frozen=True)
class ValidationBatch:
    """Some scenes of a validation.

    Attributes:
        batch: inputs and targets.
        truths: the objects of each scene.
    """

    batch: TrainingBatch
    truths: tuple[GroundTruth, ...]


class ValidationScenes(torch.utils.data.Dataset[ValidationBatch]):
    """The batches of a validation: scenes without augmentation, with the largest number of agents that the training has.

    A scene has the same agents, types and errors of poses every time, so that epochs can be compared. Several replicas share the
    scenes.
    """

    def __init__(self, source: SceneSource, model: CollabModel, settings: TrainingConfig, replica: Replica = ALONE) -> None:
        """Take scenes from `source`; the agent types of `model` make their own inputs."""
        self.source, self.settings = source, settings
        self._sensors, self._maker = sensors_of(settings), BatchMaker(model, settings)
        own = range(len(source))[replica.rank :: replica.count]
        size = settings.training.batch_scenes // replica.count
        self._parts = [own[first : first + size] for first in range(0, len(own), size)]

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self._parts)

    def __getitem__(self, index: int) -> ValidationBatch:
        """Make a batch."""
        training, drawn = self.settings.training, []
        for i in self._parts[index]:
            rng = keyed_generator(training.seed, "validation", i)
            scene = draw_scene(self.source, i, training.max_agents, self._sensors, training, rng)
            drawn.append(joined(scene) if training.merge_points else scene)
        truths = self._maker.truths(drawn)
        return ValidationBatch(self._maker.make(drawn, truths, None), tuple(truths))


@dataclass(frozen=True)
class ValidationScore:
    """The result of a validation.

    Attributes:
        loss: detection loss, the mean over all scenes; without the losses of single agents and of depth, as in HEAL.
        ap: average precision by IoU threshold; None if there is no object.
    """

    loss: float
    ap: dict[float, float | None]


def validate(taker: StepTaker, batches: Iterable[ValidationBatch]) -> ValidationScore:
    """Compute loss and average precision; networks, statistics and optimiser stay as they are.

    Args:
        taker: the training.
        batches: this replica's share of the scenes; read while the networks are in evaluation.
    """
    losses, ap = list[float](), ApAccumulator()
    with _evaluating(taker.learner), torch.no_grad():
        for part in batches:
            loss, detections = _detect(taker, part.batch)
            losses += [loss] * len(part.truths)
            for found, truth in zip(detections, part.truths, strict=True):
                ap.add(found, truth)
    total = ApAccumulator()
    everything = gather((losses, ap), taker.replica)
    for _, share in everything:
        total.merge(share)
    all_losses = [loss for share, _ in everything for loss in share]
    return ValidationScore(sum(all_losses) / len(all_losses), total.results().ap)


def _detect(taker: StepTaker, batch: TrainingBatch) -> tuple[float, list[Detections]]:
    """Return the mean detection loss of a batch, and the detections of each scene, on the CPU."""
    on_device, settings = batch.to(taker.device), taker.settings
    with taker.autocast():
        head = taker.learner(on_device.inputs)[0].head
        loss = taker.detection.loss(head, on_device.targets, settings.loss).total
    range_m = validated_range(settings.agents, settings.base.grid, settings.training.max_agents)
    scenes = [
        HeadOutput(*(part[i : i + 1] for part in (head.classification, head.regression, head.direction)))
        for i in range(len(batch.scene_ids))
    ]
    return float(loss), [taker.detection.decode(scene, range_m) for scene in scenes]


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Set a network to evaluate; afterwards every part of it is as before."""
    modes = {part: part.training for part in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training
