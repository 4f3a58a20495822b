"""The replicas of a training: processes that train together, each on its share of every batch."""

from __future__ import annotations

from dataclasses import dataclass

from heal.errors import UserError


class ReplicaError(UserError, RuntimeError):
    """A replica failed; the message is that of the replica's own error."""


@dataclass(frozen=True)
class Replica:
    """One of the processes that train together.

    Attributes:
        rank: number of this replica, from 0; replica 0 writes logs and checkpoints.
        count: number of replicas.
        device: torch's name of the device that this replica computes on.
    """

    rank: int = 0
    count: int = 1
    device: str = "cpu"

    @property
    def is_first(self) -> bool:
        """Whether this replica writes logs and checkpoints."""
        return self.rank == 0


ALONE = Replica()
