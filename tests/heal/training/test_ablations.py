"""The settings of the paper's ablations work: one scale in the pyramid, and no supervision of the foreground."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from heal.collab_model import CollabModel
from heal.tools.shared.paths import CONFIGS
from heal.tools.training.job import make_model
from heal.tools.training.settings import resolve_settings
from heal.training.batches import TrainingSteps
from heal.training.config import TrainingConfig
from heal.training.step import StepTaker
from tests.heal.networks import BASE
from tests.tools.training.small_training import SETTINGS, SOURCE


def _steps(settings: TrainingConfig) -> tuple[CollabModel, list[float]]:
    """Take some steps on one batch; return the networks and the losses without that of the foreground."""
    model = make_model(settings, None)
    taker, steps = StepTaker(model, settings), TrainingSteps(SOURCE, model, settings)
    losses = [taker.take(steps[0], 1e-2) for _ in range(6)]
    return model, [float(loss.total.detach()) - settings.training.single_weight * loss.occupancy for loss in losses]


def test_one_scale_is_a_shipped_setting_and_learns() -> None:
    whole = resolve_settings(CONFIGS / "recipes" / "opv2v" / "stage1_m1.yaml", None, [])
    shipped = resolve_settings(CONFIGS / "one_scale.yaml", None, [])
    assert shipped.training == whole.training and shipped.agents == whole.agents
    assert replace(shipped.base, pyramid=whole.base.pyramid) == whole.base
    assert (len(shipped.base.pyramid.blocks), len(shipped.loss.occupancy_weights)) == (1, 1)
    pyramid = replace(shipped.base.pyramid, blocks=(1,), channels=(8,), upsample_channels=(8,), groups=0)
    model, losses = _steps(replace(SETTINGS, base=replace(BASE, pyramid=pyramid), loss=shipped.loss))
    assert [name for name, _ in model.base.pyramid_backbone.named_children()] == ["resnet", "single_head_0", "deblocks"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_without_its_weight_the_foreground_is_not_supervised(weight: float, tmp_path: Path) -> None:
    settings = replace(SETTINGS, training=replace(SETTINGS.training, single_weight=weight))
    model = make_model(settings, None)
    taker, steps = StepTaker(model, settings), TrainingSteps(SOURCE, model, settings)
    batch = steps[next(i for i in range(len(steps)) if len(set(steps[i].inputs.agents_per_scene)) == 1)]
    losses = taker.losses(batch)
    detection = losses.classification + losses.regression + losses.direction
    assert losses.occupancy > 0.01
    torch.testing.assert_close(float(losses.total.detach()), detection + weight * losses.occupancy, atol=1e-4, rtol=1e-5)


def test_the_flag_of_the_command_reaches_the_loss() -> None:
    settings = resolve_settings(CONFIGS / "base.yaml", None, ["training.single_weight=0"])
    assert settings.training.single_weight == 0 and resolve_settings(CONFIGS / "base.yaml", None, []).training.single_weight == 1
