"""Which of several processes that train together this one is."""

from __future__ import annotations

from dataclasses import dataclass


class ReplicaError(RuntimeError):
    """A process that trained together with others failed; the message is its own."""


@dataclass(frozen=True)
class Replica:
    """One of the processes that train together.

    Attributes:
        rank: which one; the first writes logs and checkpoints.
        count: how many there are.
        device: where it computes.
    """

    rank: int = 0
    count: int = 1
    device: str = "cpu"

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes."""
        return self.rank == 0


ALONE = Replica()
