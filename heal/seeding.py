"""Random numbers that depend only on a seed and a key, not on the order of the draws or the process that draws."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np


def keyed_generator(seed: int, *key: int | str) -> np.random.Generator:
    """Return the random generator of a seed and a key; equal seeds and keys give equal numbers in every process.

    Every key contains its purpose, and all keys of a purpose have the same length. This is necessary: NumPy pads a seed and a key
    of fewer than four numbers with zeros, so without a purpose `(epoch,)`, `(epoch, 0)` and `(epoch, 0, 0)` would draw the same
    numbers. The built-in town has keys of its own, of which `heal.datasets.town.seeds` takes care.

    Args:
        seed: the seed of the run or the training, 0 or more.
        key: the purpose, such as "jitter", and the owner of the numbers, such as an agent and a tick; each number 0 or more.
    """
    return np.random.default_rng([seed, *(zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key)])


@dataclass(frozen=True)
class AgentDraws:
    """The random numbers of one agent: the same for the same purpose and tick, whenever they are drawn.

    Attributes:
        seed: the seed of the run.
        agent_id: the agent.
    """

    seed: int
    agent_id: str

    def generator(self, purpose: str, tick: int) -> np.random.Generator:
        """Return the random generator for a purpose in a tick; different purposes draw independently."""
        return keyed_generator(self.seed, self.agent_id, purpose, tick)

    def uniform(self, purpose: str, tick: int) -> float:
        """Return one number in [0, 1) for a purpose in a tick."""
        return float(self.generator(purpose, tick).random())
