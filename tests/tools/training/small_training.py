"""A training that takes seconds, and functions for its processes, which have to be importable from other processes."""

from dataclasses import replace
from pathlib import Path

import torch

from heal.collab_model import CollabModel
from heal.datasets.in_memory import ScenesInMemory
from heal.detection.loss import LossConfig
from heal.tools.training.loop import train
from heal.tools.training.validator import Validator
from heal.training.batches import TrainingSteps
from heal.training.config import ScheduleConfig, TrainingConfig
from heal.training.replica import Replica
from heal.training.validation import ValidationScenes
from tests.heal.networks import AGENT, BASE, small_model, small_scene

SETTINGS = TrainingConfig(
    base=BASE,
    agents={"m1": AGENT},
    loss=LossConfig(occupancy_weights=(0.4, 0.2)),
    training=ScheduleConfig(epochs=3, batch_scenes=2, learning_rate=1e-2, schedule="onecycle", adam_epsilon=1e-8, workers=0),
)
SOURCE = ScenesInMemory([small_scene(seed, agents=1 + seed % 3) for seed in range(5)])
TOGETHER = replace(SETTINGS, training=replace(SETTINGS.training, epochs=1, replicas=2))


def fresh_model() -> CollabModel:
    """Make the model with the same random weights every time."""
    torch.manual_seed(0)
    return small_model()


def work(run: Path, replica: Replica) -> None:
    """Train and validate as one of two processes, and write the weights of this process."""
    model = fresh_model()
    validator = Validator(ValidationScenes(SOURCE, model, TOGETHER, replica), "validate", run)
    train(model, TrainingSteps(SOURCE, model, TOGETHER, replica), TOGETHER, run, lambda _: None, replica, validator)
    torch.save(model.state_dict(), run / f"rank{replica.rank}.pt")


def fail(replica: Replica) -> None:
    """Raise an error with the number of the process."""
    raise ValueError(f"the loss is nan in process {replica.rank}")
