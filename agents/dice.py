"""Random numbers that depend on (seed, agent, tick) alone, not on the order of the calls."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Dice:
    """Random numbers for one agent, the same for the same tick whenever they are drawn."""

    seed: int
    agent_id: str

    def generator(self, purpose: str, tick: int) -> np.random.Generator:
        """A fresh source of numbers; different purposes draw independently."""
        key = (self.seed, zlib.crc32(self.agent_id.encode()), zlib.crc32(purpose.encode()), tick)
        return np.random.default_rng(key)

    def uniform(self, purpose: str, tick: int) -> float:
        """A number in [0, 1)."""
        return float(self.generator(purpose, tick).random())
