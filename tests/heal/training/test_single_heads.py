"""Heads on single agents: they learn from every agent's own labels, and only the training of a base uses them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from heal.agent_model import AgentModel
from heal.base_model import BaseConfig, BaseModel
from heal.collab_model import CollabModel
from heal.config import to_plain
from heal.detection.head import HeadOutput
from heal.detection.loss import LossConfig
from heal.fusion.maximum import MaximumConfig
from heal.heads.center_targets import CentersConfig
from heal.layers.inference import for_inference
from heal.tools.training.loop import StepReport, train
from heal.training.batches import TrainingSteps
from heal.training.config import TrainingConfig
from heal.training.step import StepTaker
from heal.training.validation import ValidationScenes, validate
from tests.heal.networks import AGENT, BASE, GRID
from tests.tools.training.small_training import SETTINGS, SOURCE

BASES = {
    "pyramid, anchors": replace(BASE, single_heads=True),
    "max, centres": replace(BASE, single_heads=True, fusion=MaximumConfig(), heads=CentersConfig(channels=8)),
}
both = pytest.mark.parametrize("base", BASES.values(), ids=BASES)


def with_two_types(base: BaseConfig) -> tuple[CollabModel, TrainingConfig]:
    torch.manual_seed(0)
    agents = {"m1": AGENT, "m2": AGENT}
    loss = LossConfig(occupancy_weights=(0.4, 0.2))
    training = replace(SETTINGS.training, max_agents=3, random_agents=False)
    model = CollabModel(BaseModel(base), {name: AgentModel(agent, GRID) for name, agent in agents.items()})
    return model, replace(SETTINGS, base=base, agents=agents, loss=loss, training=training)


def single_layers(base: BaseModel) -> list[str]:
    return [name for name, _ in base.named_children() if name.endswith("_single")]


@both
def test_the_loss_is_that_of_every_agents_own_map_and_labels(base: BaseConfig) -> None:
    model, settings = with_two_types(base)
    steps = TrainingSteps(SOURCE, model, settings)
    batch = next(step for step in map(steps.__getitem__, range(len(steps))) if len(set(step.inputs.agent_types)) == 2)
    losses = [
        StepTaker(model, replace(settings, training=replace(settings.training, single_weight=weight))).losses(batch)
        for weight in (0.0, 0.5)
    ]
    by_layer = {name.removesuffix("_single"): model.base.get_submodule(name) for name in single_layers(model.base)}
    assert by_layer.keys() == model.base.head_layers.keys()
    alone = model.base.detection.output(by_layer, model.encode(batch.inputs))
    expected = model.base.detection.loss(alone, batch.agent_targets, settings.loss).total.detach()
    assert losses[1].single == pytest.approx(float(expected), rel=1e-4) and expected > 0
    single = model(batch.inputs).single
    assert single is not None
    own = model.base.detection.loss(single, batch.agent_targets, settings.loss).total
    for name in ("m1", "m2"):
        gradients = torch.autograd.grad(own, list(model.agent(name).parameters()), retain_graph=True)
        assert any(gradient.any() for gradient in gradients), f"the map of {name} learns"
    part = float(losses[1].total.detach() - losses[0].total.detach())
    assert part == pytest.approx(0.5 * (losses[1].single + losses[1].occupancy), rel=1e-3)


@both
def test_they_learn_in_the_training_of_a_base(base: BaseConfig, tmp_path: Path) -> None:
    model, settings = with_two_types(base)
    settings = replace(settings, training=replace(settings.training, epochs=30))
    before, reports = {key: tensor.clone() for key, tensor in model.base.state_dict().items()}, list[StepReport]()
    train(model, TrainingSteps(SOURCE, model, settings), settings, tmp_path, reports.append)
    losses = [report.losses["single"] for report in reports]
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:4])
    after = model.base.state_dict()
    weights = [key for key, _ in model.base.named_parameters() if "_single" in key]
    assert weights and not any(torch.equal(before[key], after[key]) for key in weights)
    validate(StepTaker(model, settings), ValidationScenes(SOURCE, model, settings))
    validated = model.base.state_dict()
    assert all(torch.equal(after[key], validated[key]) for key in after)


@both
def test_stage_two_and_runs_do_not_use_them(base: BaseConfig, tmp_path: Path) -> None:
    model, settings = with_two_types(base)
    frozen = replace(settings, training=replace(settings.training, frozen_base=True, max_agents=1, random_ego=True, epochs=1))
    before, reports = {key: tensor.clone() for key, tensor in model.base.state_dict().items()}, list[StepReport]()
    train(model, TrainingSteps(SOURCE, model, frozen), frozen, tmp_path, reports.append)
    assert reports and all(report.losses["single"] == 0 for report in reports)
    assert all(torch.equal(before[key], tensor) for key, tensor in model.base.state_dict().items())
    assert single_layers(model.base) and not single_layers(for_inference(model.base))
    given = (torch.randn(2, 8, GRID.ny, GRID.nx), torch.eye(4, dtype=torch.float64).repeat(2, 1, 1), [2])
    with torch.no_grad():
        output, fast = model.base.eval()(*given), for_inference(model.base)(*given)
    assert output.single is None and isinstance(model.base.train()(*given).single, HeadOutput)
    torch.testing.assert_close(vars(fast.head), vars(output.head), atol=1e-4, rtol=1e-4)


def test_a_base_without_them_is_as_before() -> None:
    assert "single_heads" not in to_plain(BASE, hashed=True) and to_plain(BASES["max, centres"], hashed=True)["single_heads"]
    torch.manual_seed(0)
    plain = BaseModel(BASE).state_dict()
    torch.manual_seed(0)
    extended = BaseModel(BASES["pyramid, anchors"]).state_dict()
    assert all(torch.equal(plain[key], extended[key]) for key in plain) and len(extended) == len(plain) + 6
