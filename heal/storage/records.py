"""The records of trainings that are stored beside weights."""

from __future__ import annotations

from collections.abc import Mapping

from heal.config import config


@config
class ValidationRecord:
    """The validation of weights after an epoch of their training.

    Attributes:
        split: name of the validation split.
        scenes: number of its scenes.
        epoch: number of epochs, from 1, after which the weights were validated.
        loss: detection loss, the mean over the scenes.
        ap: average precision by IoU threshold, such as "0.5"; None if there is no object.
    """

    split: str
    scenes: int
    epoch: int
    loss: float
    ap: Mapping[str, float | None]


@config
class TrainingRecord:
    """The training that weights come from.

    Attributes:
        data: name of the data set.
        scenes: number of training scenes.
        epochs: number of passes over the training scenes.
        seconds: duration of the training.
        seed: seed of the training.
        initial: hash of the base that the training started from; empty for random weights.
        agent_types: the agent types that a base was trained with.
        teacher: hash of the base that taught the weights; empty for none.
        validation: the validation by which these weights are the best of their training; None if they are those of its end.
    """

    data: str = ""
    scenes: int = 0
    epochs: int = 0
    seconds: float = 0.0
    seed: int = 0
    initial: str = ""
    agent_types: tuple[str, ...] = ()
    teacher: str = ""
    validation: ValidationRecord | None = None
