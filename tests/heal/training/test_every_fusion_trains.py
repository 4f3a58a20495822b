"""Training steps with every fusion: the whole way from the clouds of several agent types to updated weights."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch

from heal.agent_model import AgentModel
from heal.base_model import BaseModel
from heal.collab_model import CollabBatch, CollabModel
from heal.layers.backbone import BackboneConfig
from heal.training.batches import TrainingSteps
from heal.training.step import StepTaker
from tests.heal.fusion.test_every_fusion import CHANNELS, SMALL, UNUSED
from tests.heal.networks import AGENT, BASE
from tests.tools.training.small_training import SETTINGS, SOURCE

WIDE = replace(AGENT, backbone=BackboneConfig(blocks=(1,), channels=(CHANNELS,)))


def has_mixed_scene(batch: CollabBatch) -> bool:
    """Return whether agents of two types meet in a scene."""
    ends = itertools.accumulate(batch.agents_per_scene)
    return any(len(set(batch.agent_types[end - count : end])) == 2 for count, end in zip(batch.agents_per_scene, ends, strict=True))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("settings", SMALL, ids=lambda settings: settings.kind)
def test_steps_lower_the_loss_and_change_every_weight(settings: Any, precision: str) -> None:
    base = replace(BASE, in_channels=CHANNELS, fusion=settings)
    loss = replace(SETTINGS.loss, occupancy_weights=(0.4, 0.2, 0.1))
    training = replace(SETTINGS.training, precision=precision, random_agents=True)
    job = replace(SETTINGS, base=base, loss=loss, training=training, agents=dict.fromkeys(("m1", "m2"), WIDE))
    torch.manual_seed(0)
    model = CollabModel(BaseModel(base), {name: AgentModel(WIDE, base.grid) for name in job.agents})
    steps, taker = TrainingSteps(SOURCE, model, job), StepTaker(model, job)
    before = {name: weight.clone() for name, weight in model.base.fusion.named_parameters()}
    batch = next(step for step in map(steps.__getitem__, range(len(steps))) if has_mixed_scene(step.inputs))
    losses = [float(taker.take(batch, 1e-2).total.detach()) for _ in range(6)]
    assert losses[-1] < losses[0]
    same = [name for name, weight in model.base.fusion.named_parameters() if torch.equal(weight, before[name])]
    assert all(UNUSED.search(f"{settings.kind}.{name}") for name in same)
