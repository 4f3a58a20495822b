"""Random streams: every use of chance in the town has its own, derived from the split, the seed and what it is for."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from heal.seeding import keyed_generator

SPLITS = ("train", "validate", "test")


class Stream(IntEnum):
    """What a random stream is for; the numbers are part of the seed and must never be re-used."""

    LAYOUT = 1
    FURNITURE = 2
    PARKED = 3
    TRAFFIC = 4
    PATH = 5
    SENSORS = 6
    NOISE = 7
    WEATHER = 8
    VEHICLE = 9


def random_stream(split: str, seed: int, *keys: int) -> np.random.Generator:
    """A generator that depends on nothing but its arguments, so that splits never share a town and any process can repeat it.

    Raises:
        ValueError: naming the known splits, or for a negative seed.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; the town has {', '.join(SPLITS)}")
    if seed < 0:
        raise ValueError(f"the town's seed must be 0 or more, got {seed}")
    return keyed_generator(SPLITS.index(split), seed, *keys)
