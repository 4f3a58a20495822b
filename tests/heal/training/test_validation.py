"""Validation: the detection loss and AP of scenes as they are, which leave the training as it was."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from heal.agent_types import same_type
from heal.agents.local_runtime import LocalRuntime
from heal.agents.options import RunOptions
from heal.alliance import TrainingRecord
from heal.collab_model import CollabModel
from heal.datasets.in_memory import ScenesInMemory
from heal.detection.metrics import ApAccumulator
from heal.tools.train import save_alliance
from heal.training import validation
from heal.training.batches import TrainingSteps
from heal.training.config import TrainingConfig
from heal.training.replica import Replica
from heal.training.step import StepTaker
from heal.training.validation import ValidationBatch, ValidationScenes, validate
from tests.heal.networks import BASE, small_model, small_scene, with_random_norms
from tests.tools.training.small_training import SETTINGS, SOURCE

# Boxes of an untrained network count as detections.
BASE_OF_ALL = replace(BASE, decode=replace(BASE.decode, score_threshold=0.0, max_candidates=9999))
OPEN = replace(SETTINGS, base=BASE_OF_ALL, training=replace(SETTINGS.training, random_agents=True, random_ego=False))
FROZEN = replace(OPEN, training=replace(OPEN.training, frozen_base=True, max_agents=1, random_ego=True))


def _model() -> CollabModel:
    torch.manual_seed(0)
    model = small_model()
    with_random_norms(model)
    with torch.no_grad():
        model.base.cls_head.bias.zero_()
    return model


def test_loss_and_ap_are_those_of_the_networks_in_evaluation(tmp_path: Path) -> None:
    model = _model()
    model.base.config = BASE_OF_ALL
    alliance = save_alliance(tmp_path, model, OPEN, TrainingRecord())
    taker = StepTaker(model, OPEN)
    score = validate(taker, ValidationScenes(SOURCE, model, OPEN))
    evaluated, options = ApAccumulator(), RunOptions(correct_poses="off", threads=1)
    for scene in SOURCE.scenes:
        with LocalRuntime(alliance, ScenesInMemory([scene]), same_type("m1"), options=options) as runtime:
            evaluated.add_match(next(iter(runtime.run([0]))).match)
    assert score.ap == pytest.approx(evaluated.results().ap, abs=1e-3) and 0.03 < (score.ap[0.3] or 0.0) < 1.0
    losses = []
    for part in ValidationScenes(SOURCE, model, replace(OPEN, training=replace(OPEN.training, batch_scenes=1))):
        head = alliance.base(
            alliance.agent("m1")(part.batch.inputs.inputs["m1"]),
            part.batch.inputs.agent_SE3_ego,
            part.batch.inputs.agents_per_scene,
        ).head
        losses.append(float(taker.detection.loss(head, part.batch.targets, OPEN.loss).total))
    assert len(losses) == 5 and score.loss == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize("settings", [OPEN, FROZEN], ids=["stage 1", "stage 2"])
def test_validation_leaves_everything_as_it_was(settings: TrainingConfig) -> None:
    model = _model()
    taker = StepTaker(model, settings)
    taker.take(TrainingSteps(SOURCE, model, settings)[0], 1e-3)

    def state() -> dict[str, Tensor]:
        moments = {f"{i} {name}": value for i, part in enumerate(taker.optimizer.state.values()) for name, value in part.items()}
        return copy.deepcopy({**taker.learner.state_dict(), **model.state_dict(), **moments, "random": torch.get_rng_state()})

    before, modes = state(), [part.training for part in (*model.modules(), *taker.learner.modules())]
    validate(taker, ValidationScenes(SOURCE, model, settings))
    after = state()
    assert [name for name, value in before.items() if not torch.equal(value, after[name])] == []
    assert modes == [part.training for part in (*model.modules(), *taker.learner.modules())] and any(modes)


def test_an_error_in_a_validation_leaves_the_networks_learning() -> None:
    model = _model()
    taker = StepTaker(model, OPEN)
    with pytest.raises(KeyboardInterrupt):
        validate(taker, _interrupted())
    assert all(part.training for part in model.modules())


def test_without_objects_there_is_a_loss_and_no_ap() -> None:
    model, empty = _model(), ScenesInMemory([small_scene(0, cars=0)])
    score = validate(StepTaker(model, OPEN), ValidationScenes(empty, model, OPEN))
    assert np.isfinite(score.loss) and set(score.ap.values()) == {None}


def test_replicas_share_the_scenes_and_have_the_same_score(monkeypatch: pytest.MonkeyPatch) -> None:
    model, shares = _model(), []
    whole = validate(StepTaker(model, OPEN), ValidationScenes(SOURCE, model, OPEN))
    for rank in range(2):
        scenes = ValidationScenes(SOURCE, model, OPEN, Replica(rank, 2))
        monkeypatch.setattr(validation, "gather", lambda part, _: [shares.append(part), part][1:])
        validate(StepTaker(model, OPEN), scenes)
    monkeypatch.setattr(validation, "gather", lambda *_: shares)
    together = validate(StepTaker(model, OPEN), ())
    assert [len(losses) for losses, _ in shares] == [3, 2]
    assert together.loss == pytest.approx(whole.loss, rel=1e-6) and together.ap == pytest.approx(whole.ap, abs=1e-6)


def test_a_scene_has_the_same_agents_every_time_and_no_augmentation() -> None:
    settings = replace(OPEN, augment=replace(OPEN.augment, flip=True, jitter_m=0.1), training=replace(OPEN.training, max_agents=2))
    model = _model()
    first, second = (ValidationScenes(SOURCE, model, settings)[1].batch for _ in range(2))
    assert first.inputs.agents_per_scene == second.inputs.agents_per_scene == (2, 1)
    assert torch.equal(first.inputs.inputs["m1"].points, second.inputs.inputs["m1"].points)
    plain = ValidationScenes(SOURCE, model, replace(settings, augment=OPEN.augment))[1].batch
    assert torch.equal(first.inputs.inputs["m1"].points, plain.inputs.inputs["m1"].points)


def _interrupted() -> Iterator[ValidationBatch]:
    """Yield nothing, because Ctrl-C comes first."""
    raise KeyboardInterrupt
    yield
