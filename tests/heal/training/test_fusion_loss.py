"""A fusion's own loss is part of the total that a training minimises, and of its log."""

from __future__ import annotations

from dataclasses import replace

import torch

from heal.agent_model import AgentModel
from heal.base_model import BaseModel
from heal.collab_model import CollabModel
from heal.detection.loss import LossConfig
from heal.fusion.maximum import MaximumConfig
from heal.fusion.mpda import MpdaConfig
from heal.training.batches import TrainingSteps
from heal.training.step import StepTaker
from tests.heal.networks import AGENT, BASE
from tests.tools.training.small_training import SETTINGS, SOURCE

MPDA = MpdaConfig(fused_by=MaximumConfig(), head_channels=4, hidden=8)
TYPES = {"m1": AGENT, "m2": AGENT}
TRAINING = replace(SETTINGS.training, random_agents=True, single_weight=0.0, batch_scenes=1)


def test_the_domain_loss_is_in_the_total_and_in_the_log() -> None:
    torch.manual_seed(0)
    base = replace(BASE, fusion=MPDA)
    settings = replace(SETTINGS, base=base, agents=TYPES, loss=LossConfig(occupancy_weights=(1.0,)), training=TRAINING)
    model = CollabModel(BaseModel(base), {name: AgentModel(agent, base.grid) for name, agent in TYPES.items()})
    taker, steps = StepTaker(model, settings), TrainingSteps(SOURCE, model, settings)
    batch = next(step for step in map(steps.__getitem__, range(len(steps))) if len(set(step.inputs.agent_types)) == 2)
    before = {name: weight.clone() for name, weight in model.base.fusion.named_parameters()}
    parts = taker.take(batch, 1e-3).parts()
    assert parts["fusion"] > 0
    others = ("classification", "regression", "direction", "depth", "fusion")
    torch.testing.assert_close(parts["total"], sum(parts[name] for name in others), rtol=1e-5, atol=1e-6)
    changed = {name for name, weight in model.base.fusion.named_parameters() if not torch.equal(weight, before[name])}
    assert {"classifier.0.weight", "resizer.weight"} <= changed
