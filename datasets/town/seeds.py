"""Random streams of a town: every purpose has a generator of its own, derived from the split, the seed and a key."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from heal.errors import UserError
from heal.seeding import keyed_generator

SPLITS = ("train", "validate", "test")


class Stream(IntEnum):
    """The purpose of a random stream: the first number of its key.

    The numbers and the lengths of the keys are part of every published town: a number never changes and is never used again.

    NumPy pads a seed sequence of fewer than four numbers with zeros, so that (1, 2, 3) and (1, 2, 3, 0) draw the same numbers. No
    two keys of a town differ in zeros alone. Every key of PATH (vehicle, attempt), WALKERS (pedestrian, attempt), NOISE and DROPS
    (tick, agent) has two more numbers. The other purposes have a key without more numbers; LAYOUT and TRAFFIC also have keys with
    one more number, 1 to 3, never 0.
    """

    LAYOUT = 1
    FURNITURE = 2
    PARKED = 3
    TRAFFIC = 4
    PATH = 5
    SENSORS = 6
    NOISE = 7
    WEATHER = 8
    DROPS = 9
    WALKERS = 10


def require_split_and_seed(split: str, seed: int) -> None:
    """Check that a town of this split and seed exists.

    Raises:
        ValueError: the split is unknown, or the seed is negative.
    """
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}; the town has {', '.join(SPLITS)}")
    if seed < 0:
        raise UserError(f"the town's seed must be 0 or more, got {seed}")


def random_stream(split: str, seed: int, *key: int) -> np.random.Generator:
    """Return a generator that depends on the arguments alone: splits share no town, and every process draws the same numbers.

    Args:
        split: "train", "validate" or "test".
        seed: seed of the town, 0 or more. NumPy splits a seed of 2**32 or more into two numbers; two such towns may share a stream.
        key: the purpose, a `Stream`, and further numbers of 0 or more.

    Raises:
        ValueError: the split is unknown, or the seed is negative.
    """
    require_split_and_seed(split, seed)
    return keyed_generator(SPLITS.index(split), seed, *key)
