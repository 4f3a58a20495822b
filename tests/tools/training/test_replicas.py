"""Several processes that train together do what one would do with the mean of their gradients."""

import copy
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from heal.agents.on_ray.replicas import run_replicas
from heal.detection.anchors import make_anchors
from heal.tools.training.checkpoint import load_weights
from heal.training.batches import TrainingSteps
from heal.training.config import TrainConfig, learning_rate
from heal.training.replica import Replica, ReplicaError
from heal.training.step import Learner, make_optimizer, training_loss
from tests.tools.training.small_training import SOURCE, TOGETHER, fail, fresh_model, work


def _expected(settings: TrainConfig) -> dict[str, Tensor]:
    """Both processes' steps, one after the other in this one; batch norms move as the first process sees them."""
    model = fresh_model().train()
    optimizer, anchors = make_optimizer(model, settings.training), make_anchors(settings.base.grid, settings.base.anchors)
    shares = [TrainingSteps(SOURCE, model, settings, Replica(rank, 2)) for rank in range(2)]
    for step in range(len(shares[0])):
        twins = [model, copy.deepcopy(model)]
        for twin, share in zip(twins, shares, strict=True):
            twin.zero_grad()
            training_loss(Learner(twin), share[step], settings, anchors).total.backward()
        for mine, others in zip(*(twin.parameters() for twin in twins), strict=True):
            assert mine.grad is not None and others.grad is not None
            mine.grad = (mine.grad + others.grad) / 2
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(settings.training, step, shares[0].steps_per_epoch)
        optimizer.step()
    return model.state_dict()


def test_gradients_are_averaged_and_the_first_process_writes(tmp_path: Path) -> None:
    run_replicas(partial(work, tmp_path), 2, gpus=False)
    model = fresh_model()
    assert load_weights(tmp_path / "checkpoint.pt", model).step == 2
    for name, tensor in _expected(TOGETHER).items():
        torch.testing.assert_close(model.state_dict()[name], tensor, rtol=1e-3, atol=1e-5, msg=name)


def test_what_stops_one_process_is_said_in_its_own_words() -> None:
    with pytest.raises(ReplicaError, match="ValueError: the loss is nan in process"):
        run_replicas(fail, 2, gpus=False)
